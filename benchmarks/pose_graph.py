"""The Sim(3) pose graph at the length of an hour: seconds, peak memory, error against truth, wrong loops.

    python benchmarks/pose_graph.py

3,600 submaps lie along laps of a street and are joined to a chain by edges with noise; loops join places that
are passed again. A share of the loops is wrong: their measurement, which is a good one, belongs to other
submaps than they claim. Every case runs in a process of its own, and is solved once more without its wrong
loops, as the best that could be reached.

The elastic case goes on to the cameras: fine, coarse and loop submaps that bend, placed as the pipeline does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from typing import Any

import numpy as np
from metadata import describe_environment

from da3stream.geometry.registration import umeyama
from da3stream.geometry.rigid3 import invert, to_4x4
from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import optimise, place
from da3stream.optimisation.distortion import estimate, honest_edges
from da3stream.optimisation.edges import unstack
from da3stream.optimisation.elastic import bend
from da3stream.optimisation.placement import place_along
from da3stream.scene import Chunk, PlacedCameras, PoseGraph, SubmapCameras, SubmapEdge
from da3stream.synthetic.bent_submaps import Bending, bend_submap, measure_edges, sliding_chunks
from da3stream.synthetic.paths import street_laps

SIGMA = np.array([0.002] * 3 + [0.02] * 3 + [0.004])
"""Standard deviation of an edge: radians, metres in the truth's unit, log-scale."""
METRES_PER_SUBMAP = 6.0
CHUNK, OVERLAP, COARSE_STRIDE, LOOP_WINDOW = 60, 30, 8, 12
METRES_PER_FRAME, DEPTH_M = 0.2, 10.0


def true_submaps(count: int, laps: int, rng: np.random.Generator) -> list[Sim3]:
    """Submaps along the street, each in a unit of its own."""
    poses = street_laps(count, lap_frames=count // laps, step_m=METRES_PER_SUBMAP)
    return [
        Sim3(scale=np.exp(0.5 * rng.normal()), rotation=pose[:3, :3], translation=pose[:3, 3])
        for pose in poses
    ]


def measure(truth: list[Sim3], a: int, b: int, kind: Any, rng: np.random.Generator) -> SubmapEdge:
    sigma = SIGMA.copy()
    sigma[3:6] /= truth[b].scale
    a_from_b = truth[a].inverse() @ truth[b] @ Sim3.exp(sigma * rng.normal(size=7))
    return SubmapEdge(a=a, b=b, a_from_b=a_from_b, information=np.diag(sigma**-2.0), kind=kind)


def make_graph(
    nodes: int, loops: int, wrong: float, laps: int, seed: int
) -> tuple[PoseGraph, list[Sim3], Any]:
    """The graph, the truth, and which edges are wrong."""
    rng = np.random.default_rng(seed)
    truth = true_submaps(nodes, laps, rng)
    edges = [measure(truth, i - 1, i, "overlap", rng) for i in range(1, nodes)]
    lap = nodes // laps
    is_wrong = np.zeros(nodes - 1 + loops, dtype=bool)
    for number in range(loops):
        b = int(rng.integers(lap, nodes))
        a = b - lap * int(rng.integers(1, b // lap + 1)) + int(rng.integers(-2, 3))
        a = int(np.clip(a, 0, b - 2))
        edge = measure(truth, a, b, "loop", rng)
        if rng.random() < wrong:
            is_wrong[nodes - 1 + number] = True
            pretended, b = sorted(rng.choice(nodes, 2, replace=False).tolist())
            edge = SubmapEdge(
                a=pretended, b=b, a_from_b=edge.a_from_b, information=edge.information, kind="loop"
            )
        edges.append(edge)
    return PoseGraph(nodes=nodes, edges=tuple(edges)), truth, is_wrong


def absolute_error_m(world_from: list[Sim3], truth: list[Sim3]) -> float:
    """RMS distance of the submaps' origins after alignment."""
    have, want = (np.stack([t.translation for t in poses]) for poses in (world_from, truth))
    return float(np.sqrt(np.square(umeyama(have, want).apply(have) - want).sum(axis=1).mean()))


def run_case(arguments: argparse.Namespace, wrong_share: float, answers: Any) -> None:
    graph, truth, is_wrong = make_graph(
        arguments.nodes, arguments.loops, wrong_share, arguments.laps, arguments.seed
    )
    before = unstack(place_along(graph.edges[: graph.nodes - 1], [truth[0]]))
    memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu_began = time.perf_counter(), time.process_time()
    optimised = optimise(graph, [truth[0]])
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    right = tuple(edge for edge, wrong in zip(graph.edges, is_wrong, strict=True) if not wrong)
    reference = optimise(PoseGraph(nodes=graph.nodes, edges=right), [truth[0]])
    used, report = optimised.report.weights > 0, optimised.report
    answers.put(
        {
            "wrong_share": wrong_share,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "peak_rss_bytes": peak * 1024,
            "rss_before_bytes": memory_before * 1024,
            "ate_before_m": absolute_error_m(before, truth),
            "ate_after_m": absolute_error_m(optimised.world_from, truth),
            "ate_without_the_wrong_loops_m": absolute_error_m(reference.world_from, truth),
            "wrong_loops": int(is_wrong.sum()),
            "wrong_loops_used": int((is_wrong & used).sum()),
            "right_loops_refused": int((~is_wrong & ~used).sum()),
            "iterations": report.iterations,
            "variance_factor": report.variance_factor,
            "converged": report.converged,
            "reason": report.reason,
        }
    )


def plan_chunks(frames: int, loops: int, lap: int, rng: np.random.Generator) -> list[Chunk]:
    """Fine chunks, coarse ones, and loops of two windows a lap apart."""
    fine = sliding_chunks(frames, size=CHUNK, overlap=OVERLAP)
    coarse = sliding_chunks(frames // COARSE_STRIDE, size=CHUNK, overlap=OVERLAP)
    sparse = [tuple(COARSE_STRIDE * frame for frame in chunk.frames) for chunk in coarse]
    starts = rng.integers(0, frames - lap - LOOP_WINDOW, loops)
    windows = [
        tuple(range(s, s + LOOP_WINDOW)) + tuple(range(s + lap, s + lap + LOOP_WINDOW)) for s in starts
    ]
    others = [(COARSE_STRIDE, context) for context in sparse] + [(1, context) for context in windows]
    return fine + [
        Chunk(index=len(fine) + number, scale=scale, context=context, new=())
        for number, (scale, context) in enumerate(others)
    ]


def camera_error_m(placed: list[PlacedCameras], world_from_cam: np.ndarray) -> float:
    """RMS distance of the camera centres after alignment; the mean of the fine submaps that hold a frame."""
    total, count = np.zeros((len(world_from_cam), 3)), np.zeros(len(world_from_cam))
    for cameras in placed:
        if cameras.chunk.new:
            frames = list(cameras.chunk.frames)
            total[frames] += cameras.world_from_cam[:, :3, 3]
            count[frames] += 1
    have, want = total / count[:, None], world_from_cam[:, :3, 3]
    return float(np.sqrt(np.square(umeyama(have, want).apply(have) - want).sum(axis=1).mean()))


def placed_rigidly(submaps: list[SubmapCameras], world_from: list[Sim3]) -> list[PlacedCameras]:
    return [
        PlacedCameras(
            chunk=submap.chunk,
            world_from_cam=pose.move_pose(invert(to_4x4(submap.cam_from_submap))),
            depth_scale=np.full(len(submap.chunk.frames), float(pose.scale)),
        )
        for submap, pose in zip(submaps, world_from, strict=True)
    ]


def run_elastic(arguments: argparse.Namespace, answers: Any) -> None:
    rng = np.random.default_rng(arguments.seed)
    frames = arguments.nodes * (CHUNK - OVERLAP) + OVERLAP
    lap = frames // arguments.laps
    world_from_cam = street_laps(frames, lap_frames=lap, step_m=METRES_PER_FRAME)
    chunks = plan_chunks(frames, arguments.elastic_loops, lap, rng)
    usual = Bending()
    coarse = Bending(drift=2 * usual.drift, jitter=2 * usual.jitter)
    bent = [
        bend_submap(world_from_cam, c, rng, bending=usual if c.scale == 1 else coarse, depth_m=DEPTH_M)
        for c in chunks
    ]
    submaps, edges = [b.cameras for b in bent], measure_edges(bent)
    memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu_began = time.perf_counter(), time.process_time()
    placement = place(submaps, edges, Sim3.identity())
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = [time.perf_counter()]
    distortion = estimate(submaps, edges)
    honest = honest_edges(submaps, edges, distortion)
    times.append(time.perf_counter())
    used = [e for e, w in zip(edges, placement.report.weights, strict=True) if w > 0]
    bend(submaps, used, placement.rigid, distortion)
    times.append(time.perf_counter())
    chain = tuple(edge for edge in honest if edge.kind == "overlap")
    fine = sum(bool(chunk.new) for chunk in chunks)
    drifted = unstack(place_along(chain, [Sim3.identity()]))
    answers.put(
        {
            "submaps": {"fine": fine, "others": len(chunks) - fine},
            "frames": frames,
            "edges": len(edges),
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "seconds_of_distortion": times[1] - times[0],
            "seconds_of_bending": times[2] - times[1],
            "peak_rss_bytes": peak * 1024,
            "rss_before_bytes": memory_before * 1024,
            "ate_chain_m": camera_error_m(placed_rigidly(submaps[:fine], drifted), world_from_cam),
            "ate_rigid_m": camera_error_m(placed_rigidly(submaps, placement.rigid), world_from_cam),
            "ate_bent_m": camera_error_m(placement.cameras, world_from_cam),
            "right_edges_refused": int((placement.report.weights == 0).sum()),
            "variance_factor": placement.report.variance_factor,
            "iterations": placement.report.iterations,
            "converged": placement.report.converged,
            "reason": placement.report.reason,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=3600)
    parser.add_argument("--loops", type=int, default=2000)
    parser.add_argument("--elastic-loops", type=int, default=1000)
    parser.add_argument("--laps", type=int, default=4)
    parser.add_argument("--wrong", type=float, nargs="+", default=[0.0, 0.3])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")

    def answer(target: Any, *given: Any) -> Any:
        answers = context.Queue()
        process = context.Process(target=target, args=(arguments, *given, answers))
        process.start()
        result = answers.get()
        process.join()
        return result

    cases = [answer(run_case, wrong) for wrong in arguments.wrong]
    report = {**describe_environment(vars(arguments)), "cases": cases, "elastic": answer(run_elastic)}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
