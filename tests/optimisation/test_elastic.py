"""Submaps that bend: exact data, known bends, garbage frames, gauge, units, odd shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from da3stream.geometry import rigid3
from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import elastic, place
from da3stream.optimisation.distortion import Distortion, estimate
from da3stream.optimisation.elastic import JUMP_ROWS, _Knots, bend
from da3stream.scene import Chunk, PlacedCameras, PoseGraph, SubmapCameras, SubmapEdge
from da3stream.synthetic.bent_submaps import (
    EXACT,
    Bending,
    BentSubmap,
    bend_submap,
    measure_edges,
    sliding_chunks,
)
from da3stream.synthetic.paths import street_laps
from tests.optimisation.captures import DEPTH_M, camera_errors, drive, rms, with_garbage
from tests.optimisation.chained import place_submaps

SMOOTH = Bending(jitter=np.zeros(3))
FIRST = Sim3.exp(np.array([0.3, -0.2, 0.5, 1.0, 2.0, 3.0, 0.7]))


def chain(submaps: Sequence[SubmapCameras], edges: Sequence[SubmapEdge], first: Sim3 = FIRST) -> list[Sim3]:
    return place_submaps(PoseGraph(nodes=len(submaps), edges=tuple(edges)), first)


def as_placed(submaps: Sequence[SubmapCameras], world_from: Sequence[Sim3]) -> list[PlacedCameras]:
    return [
        PlacedCameras(
            chunk=submap.chunk,
            world_from_cam=pose.move_pose(rigid3.invert(rigid3.to_4x4(submap.cam_from_submap))),
            depth_scale=np.full(len(submap.chunk.frames), float(pose.scale)),
        )
        for submap, pose in zip(submaps, world_from, strict=True)
    ]


def bent(
    submaps: Sequence[SubmapCameras], edges: Sequence[SubmapEdge], world_from: Sequence[Sim3]
) -> list[PlacedCameras]:
    return bend(submaps, edges, world_from, estimate(submaps, edges))


def assert_same(
    have: Sequence[PlacedCameras], want: Sequence[PlacedCameras], tolerance: float, unit: float = 1.0
) -> None:
    """Rotations in radians and log-scales to `tolerance`, centres to so many units."""
    for one, other in zip(have, want, strict=True):
        rotations = one.world_from_cam[:, :3, :3], other.world_from_cam[:, :3, :3]
        np.testing.assert_allclose(*rotations, atol=tolerance)
        centres = one.world_from_cam[:, :3, 3], other.world_from_cam[:, :3, 3]
        np.testing.assert_allclose(*centres, atol=tolerance * unit)
        np.testing.assert_allclose(np.log(one.depth_scale), np.log(other.depth_scale), atol=tolerance)


def test_exact_submaps_do_not_bend() -> None:
    capture = drive(0, bending=EXACT, loops=[(5, 65)])
    rigid = chain(capture.submaps, capture.edges)
    depth = DEPTH_M * float(FIRST.scale)
    assert_same(
        bent(capture.submaps, capture.edges, rigid), as_placed(capture.submaps, rigid), 1e-6, unit=depth
    )


@pytest.mark.parametrize("seed", range(3))
def test_overlapping_submaps_straighten_each_other(seed: int) -> None:
    """Smooth bends: the copies of a shared frame agree far better than rigid submaps let them, and the map
    as a whole gets better."""
    capture = drive(seed, bending=SMOOTH)
    rigid = chain(capture.submaps, capture.edges)
    before, after = as_placed(capture.submaps, rigid), bent(capture.submaps, capture.edges, rigid)
    for channel, (seam, straight) in enumerate(zip(seams(before), seams(after), strict=True)):
        assert straight < 0.2 * seam, channel
    assert rms(camera_errors(after, capture.truth)) < 0.95 * rms(camera_errors(before, capture.truth))


def seams(placed: Sequence[PlacedCameras]) -> tuple[float, float]:
    """RMS difference of the copies of a frame in consecutive submaps: rotation and centre."""
    turns, shifts = [], []
    for a, b in pairwise(placed):
        shared = [frame for frame in b.chunk.frames if frame in a.chunk.frames]
        in_a = a.world_from_cam[[a.chunk.frames.index(frame) for frame in shared]]
        in_b = b.world_from_cam[[b.chunk.frames.index(frame) for frame in shared]]
        turns.append(rigid3.rotation_angle(np.swapaxes(in_a[:, :3, :3], 1, 2) @ in_b[:, :3, :3]))
        shifts.append(np.linalg.norm(in_a[:, :3, 3] - in_b[:, :3, 3], axis=1))
    return rms(np.concatenate(turns)), rms(np.concatenate(shifts))


def test_a_bend_that_only_one_submap_has_is_halved() -> None:
    """Its neighbours are exact, but of two copies of a frame neither is known to be the better one."""
    capture = drive(1, bending=EXACT, fine=7)
    rows = np.arange(20)
    curve = 0.04 * np.sin(np.pi * rows / 19)
    middle = capture.submaps[3]
    poses = rigid3.invert(rigid3.to_4x4(middle.cam_from_submap))
    steps = np.diff(poses[:, :3, 3], axis=0) * np.exp(curve[1:] / 2 + curve[:-1] / 2)[:, None]
    poses[1:, :3, 3] = poses[0, :3, 3] + np.cumsum(steps, axis=0)
    submaps = list(capture.submaps)
    submaps[3] = replace(middle, cam_from_submap=np.ascontiguousarray(rigid3.invert(poses)[:, :3]))
    edges = [deepened(edge, 3, dict(zip(middle.chunk.frames, curve, strict=True))) for edge in capture.edges]
    rigid = chain(capture.submaps, capture.edges)
    loose = Distortion(
        noise=np.ones(len(submaps)), jitter=np.full(3, 1e-3), drift=np.full(3, 1e-3), estimated=True
    )
    placed = bend(submaps, edges, rigid, loose)
    errors = camera_errors(placed, capture.truth)
    assert rms(errors) < 0.5 * rms(camera_errors(as_placed(submaps, rigid), capture.truth))


def deepened(edge: SubmapEdge, node: int, log_factor: dict[int, float]) -> SubmapEdge:
    """The edge when the depth in a submap grows by a factor that depends on the frame."""
    sign = {edge.a: 1, edge.b: -1}
    if node not in sign:
        return edge
    frames, ratios = edge.evidence["frames"], edge.evidence["depth_ratios"]
    changed = [r * np.exp(sign[node] * log_factor[f]) for f, r in zip(frames, ratios, strict=True)]
    return replace(edge, evidence={**edge.evidence, "depth_ratios": changed})


@pytest.mark.parametrize("factor", [0.5, 2.0, 50.0])
def test_one_garbage_depth_does_not_matter(factor: float) -> None:
    capture = drive(2)
    rigid = chain(capture.submaps, capture.edges)
    clean = bent(capture.submaps, capture.edges, rigid)
    spoilt = [with_garbage(edge, 45, factor) for edge in capture.edges]
    assert sum(one is not other for one, other in zip(spoilt, capture.edges, strict=True)) > 0
    # Less than the jitter of one frame's depth, 0.008.
    assert_same(bent(capture.submaps, spoilt, rigid), clean, 4e-3, unit=DEPTH_M * float(FIRST.scale))


def test_one_garbage_pose_does_not_matter() -> None:
    capture = drive(3)
    rigid = chain(capture.submaps, capture.edges)
    clean = bent(capture.submaps, capture.edges, rigid)
    submaps = list(capture.submaps)
    poses = rigid3.invert(rigid3.to_4x4(submaps[4].cam_from_submap))
    turned = Sim3.exp(np.array([0.5, 1.0, 0.2, 0, 0, 0, 0])).rotation
    poses[7, :3, :3] = turned @ poses[7, :3, :3]
    poses[7, :3, 3] += 3 * submaps[4].typical_depth
    submaps[4] = replace(submaps[4], cam_from_submap=np.ascontiguousarray(rigid3.invert(poses)[:, :3]))
    spoilt = bent(submaps, capture.edges, rigid)
    for have, want in zip(spoilt, clean, strict=True):
        rows = np.flatnonzero(
            [not (have.chunk.index == 4 and row == 7) for row in range(len(have.chunk.frames))]
        )
        shift = have.world_from_cam[rows, :3, 3] - want.world_from_cam[rows, :3, 3]
        assert np.abs(shift).max() < 0.01 * DEPTH_M * float(FIRST.scale)


def test_the_first_camera_stays_exactly_where_it_is_placed() -> None:
    capture = drive(4)
    rigid = chain(capture.submaps, capture.edges)
    placed, before = bent(capture.submaps, capture.edges, rigid), as_placed(capture.submaps, rigid)
    np.testing.assert_allclose(placed[0].world_from_cam[0], before[0].world_from_cam[0], atol=1e-12)
    np.testing.assert_allclose(placed[0].depth_scale[0], FIRST.scale, rtol=1e-12)
    assert np.abs(placed[0].depth_scale[1:] / FIRST.scale - 1).max() > 1e-4


def test_the_world_moves_with_the_first_submap() -> None:
    capture = drive(5, loops=[(5, 65)])
    moved = Sim3.exp(np.array([1.0, 2.0, -0.5, 30.0, 20.0, 10.0, -2.0]))
    want = place(capture.submaps, capture.edges, FIRST)
    have = place(capture.submaps, capture.edges, moved @ FIRST)
    expected = [
        replace(
            cameras,
            world_from_cam=moved.move_pose(cameras.world_from_cam),
            depth_scale=float(moved.scale) * cameras.depth_scale,
        )
        for cameras in want.cameras
    ]
    assert_same(have.cameras, expected, 1e-5)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_a_submap_does_not_matter(unit: float) -> None:
    """Every second submap in another unit: the same cameras, depth scales in inverse proportion."""
    capture = drive(6, loops=[(5, 65)])
    factors = np.where(np.arange(len(capture.bent)) % 2 == 1, unit, 1.0)
    submaps = [in_unit(submap, factor) for submap, factor in zip(capture.submaps, factors, strict=True)]
    edges = [edge_in_units(edge, factors) for edge in capture.edges]
    want, have = place(capture.submaps, capture.edges, FIRST), place(submaps, edges, FIRST)
    back = [
        replace(cameras, depth_scale=cameras.depth_scale * factor)
        for cameras, factor in zip(have.cameras, factors, strict=True)
    ]
    assert_same(back, want.cameras, 1e-6, unit=DEPTH_M * float(FIRST.scale))
    np.testing.assert_allclose(have.report.mahalanobis, want.report.mahalanobis, rtol=1e-4, atol=1e-4)


def in_unit(submap: SubmapCameras, factor: float) -> SubmapCameras:
    cam_from_submap = submap.cam_from_submap.copy()
    cam_from_submap[:, :, 3] *= factor
    return replace(submap, cam_from_submap=cam_from_submap, typical_depth=submap.typical_depth * factor)


def edge_in_units(edge: SubmapEdge, factors: np.ndarray) -> SubmapEdge:
    by_a, by_b = (
        Sim3(scale=factors[n], rotation=np.eye(3), translation=np.zeros(3)) for n in (edge.a, edge.b)
    )
    length = np.array([1.0] * 3 + [factors[edge.b]] * 3 + [1.0])
    ratios = np.array(edge.evidence["depth_ratios"]) * factors[edge.a] / factors[edge.b]
    return replace(
        edge,
        a_from_b=by_a @ edge.a_from_b @ by_b.inverse(),
        information=edge.information / np.outer(length, length),
        evidence={**edge.evidence, "depth_ratios": ratios.tolist()},
    )


def test_the_order_of_the_edges_does_not_matter() -> None:
    capture = drive(7, coarse=1, loops=[(5, 65), (20, 80)])
    want = place(capture.submaps, capture.edges, FIRST)
    order = np.random.default_rng(0).permutation(len(capture.edges))
    have = place(capture.submaps, [capture.edges[row] for row in order], FIRST)
    np.testing.assert_array_equal(have.report.weights, want.report.weights[order])
    assert_same(have.cameras, want.cameras, 1e-6, unit=DEPTH_M * float(FIRST.scale))


def test_a_submap_of_one_frame_follows_its_neighbour() -> None:
    capture = drive(8, bending=EXACT, fine=4)
    frame = capture.submaps[3].chunk.frames[-1]
    lone = SubmapCameras(
        chunk=Chunk(index=4, context=(frame,), new=()),
        cam_from_submap=np.eye(3, 4)[None],
        typical_depth=1.0,
    )
    scale = 1 / capture.submaps[3].typical_depth
    pose = rigid3.invert(rigid3.to_4x4(capture.submaps[3].cam_from_submap))[-1]
    edge = SubmapEdge(
        a=3,
        b=4,
        a_from_b=Sim3(scale=1 / scale, rotation=pose[:3, :3], translation=pose[:3, 3]),
        information=np.eye(7),
        kind="loop",
        evidence={"frames": [frame], "depth_ratios": [1 / scale]},
    )
    submaps, edges = [*capture.submaps, lone], [*capture.edges, edge]
    placed = place(submaps, edges, FIRST).cameras
    np.testing.assert_allclose(placed[4].world_from_cam[0], placed[3].world_from_cam[-1], atol=1e-6)
    one = place([replace(lone, chunk=replace(lone.chunk, index=0))], [], FIRST)
    np.testing.assert_allclose(one.cameras[0].world_from_cam[0, :3, 3], FIRST.translation)
    np.testing.assert_allclose(one.cameras[0].depth_scale, [FIRST.scale])


def test_a_submap_without_edges_in_use_stays_as_it_is_placed() -> None:
    capture = drive(9)
    rigid = chain(capture.submaps, capture.edges)
    used = [edge for edge in capture.edges if edge.b != len(rigid) - 1]
    placed = bend(capture.submaps, used, rigid, estimate(capture.submaps, used))
    alone, before = placed[-1].world_from_cam[:, :3, 3], as_placed(capture.submaps, rigid)[-1]
    span = np.ptp(alone, axis=0), np.ptp(before.world_from_cam[:, :3, 3], axis=0)
    # Rigid; only the common gauge moves it.
    np.testing.assert_allclose(placed[-1].depth_scale / placed[-1].depth_scale[0], 1, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(span[0]), np.linalg.norm(span[1]), rtol=0.05)


def test_edges_from_poses_count_little() -> None:
    """A wrong ratio on all frames of one edge bends less when its depths are known to disagree."""
    capture = drive(10, bending=EXACT, fine=6, coarse=1)
    rigid = chain(capture.submaps, capture.edges)
    pulls = []
    for method in ("points", "poses"):
        edges = [
            replace(edge, evidence={**edge.evidence, "method": method}) if edge.kind == "coarse" else edge
            for edge in capture.edges
        ]
        edges = [
            deepened(edge, len(rigid) - 1, dict.fromkeys(range(100), 0.05)) if edge.a == 2 else edge
            for edge in edges
        ]
        typical = Distortion(
            noise=np.ones(len(rigid)), jitter=np.full(3, 0.05), drift=np.full(3, 0.01), estimated=True
        )
        placed = bend(capture.submaps, edges, rigid, typical)
        pulls.append(np.abs(np.log(placed[2].depth_scale / rigid[2].scale)).max())
    assert pulls[0] > 1e-3
    assert pulls[1] < 0.1 * pulls[0]


@pytest.mark.parametrize(
    "evidence", [{}, {"frames": [10], "depth_ratios": []}, {"frames": [999], "depth_ratios": [1.0]}]
)
def test_an_edge_without_its_evidence_is_named(evidence: dict[str, object]) -> None:
    capture = drive(11, fine=3)
    edges = [replace(capture.edges[0], evidence=evidence), *capture.edges[1:]]
    with pytest.raises(ValueError, match="edge 0 - 1"):
        place(capture.submaps, edges, FIRST)


def recalling(jump: float) -> tuple[list[BentSubmap], list[SubmapEdge]]:
    """Exact chunks; the last one recalls two frames of the first, and has their log-scale wrong by `jump`."""
    truth = street_laps(40, seed=3, lap_frames=200, step_m=0.5)
    chunks = sliding_chunks(40, size=20, overlap=10)
    last = chunks[-1]
    chunks[-1] = Chunk(index=last.index, context=(2, 7, *last.context), new=last.new)
    rng = np.random.default_rng(0)
    submaps = [bend_submap(truth, chunk, rng, bending=EXACT, depth_m=DEPTH_M) for chunk in chunks]
    wrong = submaps[-1].world_from_depth.copy()
    wrong[:2] *= np.exp(jump)
    submaps[-1] = replace(submaps[-1], world_from_depth=wrong)
    edges = [
        replace(edge, kind="memory") if edge.b - edge.a > 1 else edge
        for edge in measure_edges(submaps, least_shared=2)
    ]
    return submaps, edges


def test_what_is_wrong_of_recalled_keyframes_bends_the_window_less_than_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They lie before a jump in time: the softer the link, the less the rows behind it follow."""
    shares = []
    for rows in (1.0, JUMP_ROWS, 60.0):
        monkeypatch.setattr(elastic, "JUMP_ROWS", rows)
        submaps, edges = recalling(jump=0.1)
        assert [edge.kind for edge in edges] == ["overlap", "memory", "overlap"]
        rigid = chain([s.cameras for s in submaps], [edge for edge in edges if edge.kind == "overlap"])
        placed = bent([s.cameras for s in submaps], edges, rigid)[-1]
        change = np.log(placed.depth_scale / float(rigid[-1].scale))
        assert change[0] > 0.01
        shares.append(np.abs(change[2:]).max() / change[0])
    assert shares[0] > 0.95
    assert shares[1] < 0.85
    assert shares[2] < 0.05


def test_recalled_keyframes_have_knots_of_their_own() -> None:
    loop = Chunk(index=0, context=tuple(range(7)) + tuple(range(50, 57)), new=())
    coarse = Chunk(index=1, scale=8, context=tuple(range(0, 80, 8)), new=())
    fine = Chunk(index=2, context=(1, 9, 40, 41), new=(42, 43, 44, 45))
    knots = _Knots.along([loop, coarse, fine])
    assert knots.submap.tolist() == [0] * 4 + [1] * 3 + [2] * 4
    rows = knots.at_rows.toarray()
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)
    np.testing.assert_array_equal(rows[[0, 13, 14, 23]].argmax(axis=1), [0, 3, 4, 6])
    np.testing.assert_array_equal(rows[[24, 25, 26, 31]].argmax(axis=1), [7, 8, 9, 10])
    assert np.count_nonzero(rows[[24, 25, 26, 31]]) == 4
    _, later = knots.links()
    assert knots.rows_before[later].tolist() == [13 / 3] * 3 + [4.5] * 2 + [JUMP_ROWS] * 2 + [5]
