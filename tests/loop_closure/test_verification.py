from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from da3stream.alignment import align_submaps
from da3stream.loop_closure.verification import LoopSides, problem_of_edge, verify_loop
from da3stream.scene import Chunk, Submap
from da3stream.store.submap_file import decode_submap, encode_submap, reduce_prediction
from da3stream.synthetic.aliasing import AliasingEstimator
from da3stream.synthetic.capture import SimulatedEstimator, SimulatedWorld
from da3stream.synthetic.paths import street_laps

from .boards import BOARD, LOOP, WALL, depth_at, edge, fence, no_boards, submap, uneven

TYPICAL = 0.9
SIDES = LoopSides(earlier=tuple(range(10, 16)), later=tuple(range(210, 216)))
STEPS = 0.1 * np.arange(6)
SCALES = {0: 1.0, 1: 1.0, 5: 1.0, 6: 1.0}


def visits(
    boards=uneven, *, later=0.3, claimed=None, later_boards=None, later_wall=WALL, sides=SIDES
) -> Submap:
    """A loop submap of two walks along the wall; the second starts at `later` and claims `claimed`."""
    n, m = len(sides.earlier), len(sides.later)
    first = [depth_at(x, boards) for x in STEPS[:n]]
    second = [depth_at(later + x, later_boards or boards, later_wall) for x in STEPS[:m]]
    start = later if claimed is None else claimed
    return submap(first + second, [*STEPS[:n], *(start + STEPS[:m])], sides.earlier + sides.later)


def loop_edges(sides=SIDES, **later):
    """Edges to submaps 0 and 1 of the earlier place, 5 and 6 of the later one."""
    return [
        edge(0, LOOP, sides.earlier, scale=2.0, shift=1.0),
        edge(1, LOOP, sides.earlier, scale=0.5, turn_deg=30.0),
        edge(5, LOOP, sides.later, **{"scale": 3.0, "shift": -4.0, **later}),
        edge(6, LOOP, sides.later, **later),
    ]


def known_edges(edges):
    """The edges 0 - 1 and 5 - 6 that close the triangles exactly."""
    by = {one.a: one.a_from_b for one in edges}
    return [
        replace(edge(a, b, (20, 21)), a_from_b=by[a] @ by[b].inverse())
        for a, b in ((0, 1), (5, 6))
        if a in by and b in by
    ]


def judge(scene, edges=None, between=None, *, sides=SIDES, scales=SCALES):
    edges = loop_edges(sides) if edges is None else edges
    between = known_edges(edges) if between is None else between
    verdict = verify_loop(scene, sides, edges, between, typical_inlier_ratio=TYPICAL, world_scales=scales)
    json.dumps(verdict.evidence, allow_nan=False)  # plain JSON values, whatever was given
    return verdict


def test_a_true_loop_is_accepted_and_says_what_it_rests_on():
    verdict = judge(visits())
    assert verdict.reason is None
    evidence = verdict.evidence
    assert evidence["agreement"] > 0.95
    assert evidence["confirmed"] > 0.5
    assert evidence["depth_tolerance"] == pytest.approx(0.03)
    assert evidence["depth_ratio"] == pytest.approx(1.0, abs=1e-6)
    assert [one["submap"] for one in evidence["earlier"]["edges"]] == [0, 1]
    for side, submaps in (("earlier", [0, 1]), ("later", [5, 6])):
        (triangle,) = evidence[side]["triangles"]
        assert triangle["submaps"] == submaps
        assert triangle["closed"]
        assert triangle["translation"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("later", [10.0, 17.0, 25.0])
def test_another_place_that_was_put_on_top_is_refused(later):
    """Its edges are perfect: only the depth maps know."""
    assert "contradict" in judge(visits(later=later, claimed=0.3)).reason


def test_places_that_see_nothing_of_each_other_are_refused():
    assert "hardly look at the same space (0%" in judge(visits(later=40.0)).reason


def test_places_that_hide_from_each_other_are_refused():
    """The later visit stands before a hoarding that was put up in between."""
    scene = visits(no_boards)
    before = scene.depth.copy()
    before[6:] = 3.0
    verdict = judge(replace(scene, depth=before))
    assert verdict.reason is not None
    assert verdict.evidence["earlier"]["coverage"] > 0.5
    assert verdict.evidence["confirmed"] == 0.0


def test_a_change_of_the_scene_is_no_other_place():
    assert judge(visits(no_boards, later_boards=lambda x: (x > -1) & (x < 0.5))).reason is None


@pytest.mark.parametrize("wall", [0.8 * WALL, 1.25 * WALL])
def test_places_of_different_scale_are_refused(wall):
    verdict = judge(visits(no_boards, later_wall=wall))
    assert verdict.reason is not None
    assert verdict.evidence["depth_ratio"] == pytest.approx(WALL / wall, abs=1e-3)


def test_a_flat_wall_is_a_place():
    assert judge(visits(no_boards)).reason is None


def test_a_fence_is_told_from_itself_half_a_period_further_only():
    period = 2.0
    assert judge(visits(fence(period))).reason is None
    half = judge(visits(fence(period), later=period / 2, claimed=0.0))
    assert "contradict" in half.reason
    assert judge(visits(fence(period), later=20 * period, claimed=0.0)).reason is None


def test_four_frames_of_each_place_are_enough():
    sides = LoopSides(earlier=SIDES.earlier[:4], later=SIDES.later[:4])
    assert judge(visits(sides=sides), sides=sides).reason is None


@pytest.mark.parametrize("where", [slice(6, None), slice(None)])
@pytest.mark.parametrize("how", ["confidence", "sky"])
def test_submaps_that_know_nothing_are_refused(where, how):
    scene = visits()
    lost = np.zeros(scene.depth.shape, dtype=bool)
    lost[where] = True
    if how == "sky":
        scene = replace(scene, sky=lost)
    else:
        scene = replace(scene, confidence=np.where(lost, 0, scene.confidence).astype(np.float32))
        rest = [one for one in loop_edges() if one.a < 2 and where.start]
        verdict = judge(scene, rest)
        assert "later place" in verdict.reason
    assert "hardly look at the same space (0%" in judge(scene, loop_edges()[: 2 if where.start else 0]).reason


def test_half_a_sky_does_no_harm():
    scene = visits()
    sky = np.zeros(scene.depth.shape, dtype=bool)
    sky[:, :10] = True
    assert (
        judge(replace(scene, depth=np.where(sky, 1e4, scene.depth).astype(np.float32), sky=sky)).reason
        is None
    )


def test_a_side_without_an_edge_is_refused():
    assert "no submap shares enough frames with the later place" in judge(visits(), loop_edges()[:2]).reason


def test_an_edge_that_shows_both_places_is_no_edge_of_either():
    spanning = [replace(one, evidence={**one.evidence, "frames": [12, 212]}) for one in loop_edges()[2:]]
    assert "later place" in judge(visits(), loop_edges()[:2] + spanning).reason


@pytest.mark.parametrize(("ratio", "is_refused"), [(0.4, True), (0.5, False)])
def test_a_side_needs_an_edge_about_as_good_as_is_usual_in_this_run(ratio, is_refused):
    verdict = judge(visits(), loop_edges(inlier_ratio=ratio))
    assert (verdict.reason is not None) == is_refused
    if is_refused:
        assert "later place does not fit" in verdict.reason
        assert "only 40%" in verdict.reason
    mixed = loop_edges(inlier_ratio=ratio)
    mixed[3] = edge(6, LOOP, SIDES.later)
    assert judge(visits(), mixed).reason is None


@pytest.mark.parametrize("wrong", [{"scale": 1.3}, {"turn_deg": 8.0}, {"shift": 0.3 * BOARD}])
def test_submaps_of_one_place_must_agree_on_it(wrong):
    edges = loop_edges()
    between = known_edges(edges)
    off = edge(5, LOOP, SIDES.later, **wrong).a_from_b
    bent = [*edges[:2], replace(edges[2], a_from_b=edges[2].a_from_b @ off), edges[3]]
    verdict = judge(visits(), bent, between)
    assert verdict.reason.startswith("submaps 5 and 6 disagree on where the later place lies")
    assert [one["closed"] for one in verdict.evidence["later"]["triangles"]] == [False]


def test_a_known_edge_that_is_no_good_proves_nothing():
    edges = loop_edges()
    between = known_edges(edges)
    poor = edge(5, 6, (220, 221), scale=9.0, inlier_ratio=0.2)
    assert judge(visits(), edges, [between[0], poor]).reason is None


@pytest.mark.parametrize(
    ("drift", "is_refused"), [(10.0, False), (0.1, False), (300.0, True), (1 / 300, True)]
)
def test_a_tenfold_drift_of_scale_is_plausible_and_nonsense_is_not(drift, is_refused):
    edges = loop_edges()
    # Submaps 0 and 5 are twice and three times as large as the loop submap: these scales agree on it.
    scales = {0: 1 / 2, 1: 1 / 0.5, 5: drift / 3, 6: drift}
    verdict = judge(visits(), edges, scales=scales)
    assert verdict.evidence["scale_jump"] == pytest.approx(drift)
    assert (verdict.reason is not None) == is_refused
    if is_refused:
        assert "factor of 300" in verdict.reason


def test_the_unit_of_the_submap_does_not_matter():
    scene = visits()
    cameras = scene.cam_from_submap.copy()
    cameras[:, :, 3] *= 1e-4
    small = replace(scene, depth=scene.depth * np.float32(1e-4), cam_from_submap=cameras)
    large, tiny = judge(scene).evidence, judge(small).evidence
    assert tiny["agreement"] == pytest.approx(large["agreement"], abs=0.01)
    assert tiny["confirmed"] == pytest.approx(large["confirmed"], abs=0.01)


@pytest.mark.parametrize(("residual", "tolerance"), [(1e-9, 0.02), (0.03, 0.09), (10.0, 0.15)])
def test_the_tolerance_follows_the_noise_within_limits(residual, tolerance):
    verdict = judge(visits(), [edge(0, LOOP, SIDES.earlier, residual=residual)])
    assert verdict.evidence["depth_tolerance"] == pytest.approx(
        {1e-9: 0.02, 0.03: 0.09, 10.0: 0.15}[residual]
    )


def test_problems_of_an_edge():
    good = edge(0, 1, (1, 2))
    assert problem_of_edge(good, TYPICAL) is None
    poses = replace(good, evidence={"method": "poses", "points": 7, "frames": [1, 2]})
    assert "7 common points" in problem_of_edge(poses, TYPICAL)
    weak = edge(0, 1, (1, 2), inlier_ratio=0.36)
    assert "only 36%" in problem_of_edge(weak, TYPICAL)
    assert problem_of_edge(replace(weak, kind="coarse"), TYPICAL) is None
    assert problem_of_edge(weak, 0.6) is None


@pytest.mark.parametrize(("earlier", "later"), [((), (1,)), ((1,), ()), ((1, 2), (2, 3))])
def test_sides_are_two_groups(earlier, later):
    with pytest.raises(ValueError, match="two groups of frames"):
        LoopSides(earlier=earlier, later=later)


# With the simulated estimator, its errors and the real alignment.

FINE = [range(60), range(30, 90), range(200, 260), range(230, 290), range(300, 360), range(330, 390)]
EARLIER, LATER, ELSEWHERE = tuple(range(38, 50)), tuple(range(340, 352)), tuple(range(238, 250))


@pytest.fixture(scope="module")
def street() -> SimulatedWorld:
    """Frame 300 + k returns to frame k."""
    return SimulatedWorld(street_laps(400, lap_frames=300, seed=1), 3)


@pytest.fixture(scope="module")
def room() -> SimulatedWorld:
    """A camera on a tripod that turns round and round: 300 frames a turn."""
    poses = np.tile(np.eye(4), (400, 1, 1))
    angle = 2 * np.pi * np.arange(400) / 300
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(angle)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(angle), -np.sin(angle)
    return SimulatedWorld(poses, 3, indoor=True, size=(18, 24), hfov_deg=60.0)


def reconstructed(estimator, index: int, frames) -> Submap:
    chunk = Chunk(index=index, context=tuple(frames), new=())
    images = np.zeros((len(chunk.frames), 1, 1, 3), np.uint8)
    prediction = estimator.estimate(images, indices=np.array(chunk.frames))
    height, width = prediction.depth.shape[1:]
    reduced = reduce_prediction(chunk, prediction, (3 * width, 3 * height))
    return decode_submap(encode_submap(reduced), chunk, is_metric=False)


def simulated_verdict(world, estimator, sides, seed):
    honest = SimulatedEstimator(world, seed)
    fine = [reconstructed(honest, k, frames) for k, frames in enumerate(FINE)]
    loop = reconstructed(estimator, LOOP, sides.earlier + sides.later)
    between = [align_submaps(fine[k], fine[k + 1]) for k in (0, 2, 4)]
    met = [one for one in fine if set(one.chunk.frames) & set(loop.chunk.frames)]
    return verify_loop(
        loop,
        sides,
        [align_submaps(one, loop, "loop") for one in met],
        between,
        typical_inlier_ratio=between[0].evidence["inlier_ratio"],
        world_scales=dict.fromkeys(range(len(fine)), 1.0),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("place", ["street", "room"])
def test_simulated_returns_are_accepted(place, seed, request):
    world = request.getfixturevalue(place)
    sides = LoopSides(earlier=EARLIER, later=LATER)
    verdict = simulated_verdict(world, SimulatedEstimator(world, seed), sides, seed)
    assert verdict.reason is None
    assert all(verdict.evidence[side]["triangles"] for side in ("earlier", "later"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("place", ["street", "room"])
def test_simulated_aliases_are_refused(place, seed, request):
    world = request.getfixturevalue(place)
    sides = LoopSides(earlier=EARLIER, later=ELSEWHERE)
    verdict = simulated_verdict(world, AliasingEstimator(world, seed), sides, seed)
    assert verdict.reason.startswith("the two places contradict")
    for side in ("earlier", "later"):  # nothing but the depth maps tells
        assert max(one["inlier_ratio"] for one in verdict.evidence[side]["edges"]) > 0.85


@pytest.mark.parametrize("place", ["street", "room"])
def test_simulated_places_apart_are_refused(place, request):
    world = request.getfixturevalue(place)
    sides = LoopSides(earlier=EARLIER, later=ELSEWHERE)
    verdict = simulated_verdict(world, SimulatedEstimator(world, 1), sides, 1)
    assert verdict.reason.startswith("the two places hardly")
