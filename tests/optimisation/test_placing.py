"""From edges to cameras: coarse chunks and loops help, wrong loops are refused, scale is recovered."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import place
from da3stream.scene import SubmapEdge
from da3stream.synthetic.bent_submaps import measure_edge
from tests.optimisation.captures import Capture, camera_errors, drive, rms

LOOPS = [(first, first + 155) for first in range(2, 140, 7)]


def error(capture: Capture, edges: list[SubmapEdge]) -> float:
    return rms(camera_errors(place(capture.submaps, edges, Sim3.identity()).cameras, capture.truth))


def gain(captures: list[Capture], kept: list[Capture]) -> float:
    """Geometric mean of the ratios of the errors."""
    ratios = [
        error(one, one.edges) / error(other, other.edges) for one, other in zip(captures, kept, strict=True)
    ]
    return float(np.exp(np.mean(np.log(ratios))))


def test_coarse_chunks_and_loops_lower_the_error() -> None:
    alone = [drive(seed, fine=30) for seed in range(4)]
    assert gain([drive(seed, fine=30, coarse=6) for seed in range(4)], alone) < 0.9
    assert gain([drive(seed, fine=30, loops=LOOPS) for seed in range(4)], alone) < 0.4


def test_no_right_edge_is_refused_and_the_report_says_what_was_used() -> None:
    capture = drive(0, fine=30, coarse=6, loops=LOOPS)
    placement = place(capture.submaps, capture.edges, Sim3.identity())
    assert placement.report.converged
    assert len(placement.report.weights) == len(capture.edges)
    assert (placement.report.weights == 0).mean() < 0.005
    assert placement.report.variance_factor < 3
    assert placement.distortion.estimated
    assert [cameras.chunk for cameras in placement.cameras] == [s.chunk for s in capture.submaps]


@pytest.mark.parametrize("seed", range(3))
def test_wrong_loops_are_refused(seed: int) -> None:
    """Three in ten loop chunks hold a place that is not the one they claim: within 1.2 times without them."""
    rng = np.random.default_rng(seed)
    capture = drive(seed, fine=30, loops=LOOPS)
    chunks = [submap.chunk.index for submap in capture.submaps if not submap.chunk.new]
    wrong_chunks = set(rng.choice(chunks, 3 * len(chunks) // 10, replace=False).tolist())
    edges, is_wrong = [], []
    for edge in capture.edges:
        # The later window of a wrong chunk is moved to anywhere.
        later = edge.b in wrong_chunks and min(edge.evidence["frames"]) > 150
        is_wrong.append(later)
        off = Sim3.exp(
            np.concatenate([rng.normal(size=3), 20 * rng.normal(size=3), 0.3 * rng.normal(size=1)])
        )
        edges.append(replace(edge, a_from_b=edge.a_from_b @ off) if later else edge)
    placement = place(capture.submaps, edges, Sim3.identity())
    used = list(zip(edges, is_wrong, placement.report.weights > 0, strict=True))
    for chunk in wrong_chunks:
        # It hangs on one of its places, whichever, and joins nothing.
        assert len({wrong for edge, wrong, weight in used if edge.b == chunk and weight}) == 1
    assert all(weight for edge, _, weight in used if edge.b not in wrong_chunks)
    right = [edge for edge, wrong in zip(edges, is_wrong, strict=True) if not wrong]
    assert rms(camera_errors(placement.cameras, capture.truth)) < 1.2 * error(capture, right)


def test_a_tenfold_scale_error_that_a_loop_closes() -> None:
    """Every edge of the chain errs by the same factor; a good loop joins the end to the beginning."""
    capture = drive(0, fine=30, loops=[(2, 298), (4, 300), (0, 296)], laps=1)
    factor = 10 ** (1 / 29)
    edges = [edge if edge.kind == "loop" else growing(edge, factor) for edge in capture.edges]
    open_end = [edge for edge in edges if not (edge.kind == "loop" and edge.a > 15)]
    before = place(capture.submaps, open_end, Sim3.identity())
    after = place(capture.submaps, edges, Sim3.identity())
    spread = [
        np.ptp(
            [
                np.log(c.depth_scale.mean() * s.typical_depth)
                for c, s in zip(p.cameras[:30], capture.submaps, strict=False)
            ]
        )
        for p in (before, after)
    ]
    assert spread[0] > 0.9 * np.log(10)
    assert after.report.converged
    assert (after.report.weights == 1).all()
    last = after.cameras[29].depth_scale.mean() * capture.submaps[29].typical_depth
    first = after.cameras[0].depth_scale.mean() * capture.submaps[0].typical_depth
    assert abs(np.log(last / first)) < 0.1 * np.log(10)


def growing(edge: SubmapEdge, factor: float) -> SubmapEdge:
    ratios = [ratio * factor for ratio in edge.evidence["depth_ratios"]]
    a_from_b = replace(edge.a_from_b, scale=edge.a_from_b.scale * factor)
    return replace(edge, a_from_b=a_from_b, evidence={**edge.evidence, "depth_ratios": ratios})


def test_metric_submaps_keep_their_scale() -> None:
    capture = drive(1, fine=20)
    nodes = range(len(capture.submaps))
    scale = [float(s.typical_depth) for s in capture.submaps]
    metric = []
    for node, submap in enumerate(capture.submaps):
        cam_from_submap = submap.cam_from_submap.copy()
        cam_from_submap[:, :, 3] *= 10 / scale[node]
        metric.append(replace(submap, cam_from_submap=cam_from_submap, typical_depth=10.0))
    bent = [
        replace(b, cameras=m, world_from_depth=b.world_from_depth * s / 10)
        for b, m, s in zip(capture.bent, metric, scale, strict=True)
    ]
    edges = [measure_edge(a, b) for a, b in pairwise(bent)]
    edges = [growing(edge, 1.02) for edge in edges]
    free = place(metric, edges, Sim3.identity(), metric_nodes=nodes)
    held = place(metric, edges, Sim3.identity(), metric_nodes=nodes, scale_prior=0.01)
    spread = [np.std([np.log(float(pose.scale)) for pose in p.rigid]) for p in (free, held)]
    assert spread[1] < 0.7 * spread[0]
