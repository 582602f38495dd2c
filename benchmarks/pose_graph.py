"""The Sim(3) pose graph at the length of an hour: seconds, peak memory, error against truth, wrong loops.

    python benchmarks/pose_graph.py

3,600 submaps lie along laps of a street and are joined to a chain by edges with noise; loops join places that
are passed again. A share of the loops is wrong: their measurement, which is a good one, belongs to other
submaps than they claim. Every case runs in a process of its own, and is solved once more without its wrong
loops, as the best that could be reached.
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
from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import optimise, place_submaps
from da3stream.scene import PoseGraph, SubmapEdge
from da3stream.synthetic.paths import street_laps

SIGMA = np.array([0.002] * 3 + [0.02] * 3 + [0.004])
"""Standard deviation of an edge: radians, metres in the truth's unit, log-scale."""
METRES_PER_SUBMAP = 6.0


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
    chain = PoseGraph(nodes=graph.nodes, edges=graph.edges[: graph.nodes - 1])
    before = place_submaps(chain, truth[0])
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=3600)
    parser.add_argument("--loops", type=int, default=2000)
    parser.add_argument("--laps", type=int, default=4)
    parser.add_argument("--wrong", type=float, nargs="+", default=[0.0, 0.3])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    cases = []
    for wrong in arguments.wrong:
        answers = context.Queue()
        process = context.Process(target=run_case, args=(arguments, wrong, answers))
        process.start()
        cases.append(answers.get())
        process.join()
    print(json.dumps({**describe_environment(vars(arguments)), "cases": cases}, indent=2))


if __name__ == "__main__":
    main()
