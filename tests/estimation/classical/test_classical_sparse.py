"""A whole chunk from matches to poses, and what happens when parts of it fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from da3stream.estimation.classical import sparse
from da3stream.estimation.classical.sparse import TRUST_GUESSED, TRUST_MAPPED, TRUST_PNP, solve_graph
from da3stream.estimation.classical.view_graph import ViewGraph
from da3stream.estimation.classical.wire import Message
from da3stream.geometry.registration import umeyama
from da3stream.geometry.rigid3 import invert, to_4x4


def _centres(poses):
    return invert(to_4x4(poses))[:, :3, 3]


def _error(solution, world):
    """Largest distance of a camera centre from the truth after a Sim(3) alignment, in world units."""
    found, truth = _centres(solution.reconstruction.cam_from_submap), _centres(world.truth.cam_from_submap)
    return np.linalg.norm(umeyama(found, truth).apply(found) - truth, axis=1).max()


def _solve(pool, world, graph=None):
    return solve_graph(pool, graph or world.graph, world.indices, world.calibration, seed=0)


def _keep(graph, wanted):
    rows = [row for row, pair in enumerate(graph.pairs.tolist()) if wanted(*pair)]
    return ViewGraph(
        keypoints=graph.keypoints,
        pairs=graph.pairs[rows],
        two_views=tuple(graph.two_views[row] for row in rows),
    )


class FailingPool:
    """Answers jobs for which `fails` says so with a failure, hands the others on."""

    def __init__(self, pool, fails, **fields):
        self.pool, self.fails, self.reply = pool, fails, Message(fields={"failed": "scripted", **fields})

    def ask(self, requests):
        return [self.reply if self.fails(each) else self.pool.ask([each])[0] for each in requests]


def test_orbit_is_reconstructed(pool, noisy_orbit):
    solution = _solve(pool, noisy_orbit)
    assert solution.has_parallax
    assert solution.warnings == ()
    assert (solution.trust == TRUST_MAPPED).all()
    assert _error(solution, noisy_orbit) < 0.01
    assert {each.mapper for each in solution.candidates} == {"incremental", "global"}
    np.testing.assert_array_equal(solution.reconstruction.cam_from_submap[0], np.eye(4)[:3])
    assert np.median(solution.reconstruction.observed_depths()) == pytest.approx(1.0)


def test_known_intrinsics_are_kept_exactly(pool, noisy_orbit):
    solution = _solve(pool, noisy_orbit)
    np.testing.assert_array_equal(solution.reconstruction.intrinsics, noisy_orbit.calibration.intrinsics)
    assert solution.settled_intrinsics is None


def test_known_intrinsics_may_differ_between_images(pool, orbit):
    """Zooming by 2 % from image to image: keypoints and intrinsics scaled alike."""
    factors = 1.02 ** np.arange(9)
    middle = orbit.calibration.intrinsics[0, :2, 2]
    keypoints = tuple(
        ((points - middle) * factor + middle).astype(np.float32)
        for points, factor in zip(orbit.graph.keypoints, factors, strict=True)
    )
    intrinsics = orbit.calibration.intrinsics.copy()
    intrinsics[:, [0, 1], [0, 1]] *= factors[:, None]
    solution = solve_graph(
        pool,
        replace(orbit.graph, keypoints=keypoints),
        orbit.indices,
        replace(orbit.calibration, intrinsics=intrinsics),
        seed=0,
    )
    np.testing.assert_array_equal(solution.reconstruction.intrinsics, intrinsics)
    assert _error(solution, orbit) < 0.005


def test_same_graph_same_bits(pool, noisy_orbit):
    first, second = _solve(pool, noisy_orbit), _solve(pool, noisy_orbit)
    np.testing.assert_array_equal(first.reconstruction.cam_from_submap, second.reconstruction.cam_from_submap)
    np.testing.assert_array_equal(first.reconstruction.points, second.reconstruction.points)


@pytest.mark.parametrize("lost", ["incremental", "global"])
def test_one_mapper_lost_is_a_warning(pool, noisy_orbit, lost):
    failing = FailingPool(pool, lambda request: request.fields.get("mapper") == lost)
    solution = _solve(failing, noisy_orbit)
    assert _error(solution, noisy_orbit) < 0.01
    assert any(lost in warning and "scripted" in warning for warning in solution.warnings)


def test_time_out_is_reported_as_breaking_repeatability(pool, noisy_orbit):
    failing = FailingPool(pool, lambda request: request.fields.get("mapper") == "global", timed_out=True)
    assert any("another run may differ" in warning for warning in _solve(failing, noisy_orbit).warnings)


def test_both_mappers_lost_falls_back(pool, noisy_orbit):
    solution = _solve(FailingPool(pool, lambda request: request.fields["job"] == "map"), noisy_orbit)
    assert not solution.has_parallax
    assert np.isfinite(solution.reconstruction.cam_from_submap).all()
    assert ((solution.trust > 0) & (solution.trust < 0.1)).all()
    assert len(solution.warnings) == 3


def test_lost_adjustment_loses_the_candidate_only(pool, noisy_orbit):
    calls = []

    def first_adjustment(request):
        calls.append(request.fields["job"])
        return calls.count("adjust") == 1 and request.fields["job"] == "adjust"

    solution = _solve(FailingPool(pool, first_adjustment), noisy_orbit)
    assert len(solution.candidates) == 1
    assert _error(solution, noisy_orbit) < 0.01


def test_frame_that_the_mappers_miss_is_placed_by_pnp(pool, noisy_orbit, monkeypatch):
    mapped = _solve(pool, noisy_orbit)
    chosen = mapped.candidates[0].reconstruction
    registered = chosen.registered.copy()
    registered[5] = False
    kept = chosen.observations[chosen.observations[:, 0] != 5]
    completed = sparse._complete(
        replace(chosen, registered=registered, observations=kept), noisy_orbit.graph, noisy_orbit.indices
    )
    assert completed.trust[5] == TRUST_PNP
    assert (np.delete(completed.trust, 5) == TRUST_MAPPED).all()
    assert "PnP" in completed.warnings[0]


def test_unmatched_frame_is_interpolated_with_little_trust(pool, noisy_orbit):
    solution = _solve(pool, noisy_orbit, _keep(noisy_orbit.graph, lambda a, b: 6 not in (a, b)))
    assert solution.trust[6] == TRUST_GUESSED
    assert (np.delete(solution.trust, 6) == TRUST_MAPPED).all()
    assert np.isfinite(solution.reconstruction.cam_from_submap).all()
    assert "interpolated: 6" in solution.warnings[-1]
    assert _error(solution, noisy_orbit) < 0.05


@pytest.mark.parametrize("n", [2, 3])
def test_short_chunks_do_not_fail(pool, make_world, orbit_poses, n):
    solution = _solve(pool, make_world(orbit_poses(n), noise_px=0.3))
    assert solution.reconstruction.cam_from_submap.shape == (n, 3, 4)
    assert np.isfinite(solution.reconstruction.cam_from_submap).all()


def test_no_matches_at_all_is_the_identity(pool, orbit):
    solution = _solve(pool, orbit, _keep(orbit.graph, lambda a, b: False))
    np.testing.assert_array_equal(
        solution.reconstruction.cam_from_submap, np.repeat(np.eye(4)[None, :3], 9, axis=0)
    )
    assert "no two frames" in solution.warnings[0]


@pytest.mark.parametrize("known", [True, False])
def test_turning_camera_is_not_mapped(make_world, turning_poses, known):
    """A pool that fails any job: nothing may be asked of it."""
    world = make_world(turning_poses(12, step_deg=1.5), noise_px=0.3, known=known)
    solution = _solve(FailingPool(None, lambda request: pytest.fail("mapped")), world)
    assert not solution.has_parallax
    assert "only turns" in solution.warnings[0]


def test_unknown_focal_of_an_orbit_is_settled(pool, make_world, orbit_poses):
    world = make_world(orbit_poses(10, step_deg=5.0), noise_px=0.4, known=False)
    guess = world.calibration.intrinsics.copy()
    guess[:, [0, 1], [0, 1]] *= 1.2
    solution = solve_graph(
        pool, world.graph, world.indices, replace(world.calibration, intrinsics=guess), seed=0
    )
    assert solution.settled_intrinsics[0, 0] == pytest.approx(380.0, rel=0.01)
    np.testing.assert_array_equal(solution.reconstruction.intrinsics[4], solution.settled_intrinsics)
    assert _error(solution, world) < 0.02


class CountingPool:
    """Remembers the jobs that it hands on."""

    def __init__(self, pool):
        self.pool, self.jobs = pool, []

    def ask(self, requests):
        self.jobs += [each.fields["job"] for each in requests]
        return self.pool.ask(requests)


def _far_away(poses):
    """The same poses in a world whose origin is far off, as of a satellite."""
    world = np.eye(4)
    world[:3, 3] = 4e5, -5e6, 100.0
    return np.ascontiguousarray((to_4x4(poses) @ world)[:, :3])


def test_known_poses_are_kept_and_points_triangulated(pool, noisy_orbit):
    """The points lie where they are, up to the scale that the median depth is 1 in."""
    counting, truth = CountingPool(pool), noisy_orbit.truth
    solution = solve_graph(
        counting,
        noisy_orbit.graph,
        noisy_orbit.indices,
        noisy_orbit.calibration,
        seed=0,
        cam_from_world=_far_away(truth.cam_from_submap),
    )
    assert counting.jobs == ["triangulate"]
    assert solution.has_parallax
    assert solution.warnings == ()
    found = solution.reconstruction
    relative = to_4x4(truth.cam_from_submap) @ invert(to_4x4(truth.cam_from_submap[0]))
    np.testing.assert_allclose(found.cam_from_submap[:, :, :3], relative[:, :3, :3], atol=1e-9)
    steps = np.linalg.norm(found.cam_from_submap[1:, :, 3], axis=1)
    scales = steps / np.linalg.norm(relative[1:, :3, 3], axis=1)
    np.testing.assert_allclose(scales, scales[0], rtol=1e-7)
    points = truth.points @ truth.cam_from_submap[0, :, :3].T + truth.cam_from_submap[0, :, 3]
    _, keypoint, point = found.observations.T
    off = np.linalg.norm(found.points[point] - scales[0] * points[keypoint], axis=1)
    assert np.median(off) < 0.01
    assert len(found.points) > 100


def test_poses_of_other_frames_are_noticed(pool, noisy_orbit):
    """Shuffled poses: the structure comes from the images, with a warning."""
    wrong = noisy_orbit.truth.cam_from_submap[np.random.default_rng(0).permutation(9)]
    solution = solve_graph(
        pool,
        noisy_orbit.graph,
        noisy_orbit.indices,
        noisy_orbit.calibration,
        seed=0,
        cam_from_world=wrong,
    )
    assert solution.warnings == (sparse.POSES_DO_NOT_FIT,)
    assert _error(solution, noisy_orbit) < 0.01


def test_known_poses_need_known_intrinsics(pool, noisy_orbit):
    counting = CountingPool(pool)
    calibration = replace(noisy_orbit.calibration, known=False)
    solve_graph(
        counting,
        noisy_orbit.graph,
        noisy_orbit.indices,
        calibration,
        seed=0,
        cam_from_world=noisy_orbit.truth.cam_from_submap,
    )
    assert "triangulate" not in counting.jobs
