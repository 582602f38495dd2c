"""Chunks without parallax: recognised, and given their rotations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream.estimation.classical.rotation import PARALLAX_PX, fit_rotation, parallax_px, rotation_chain
from da3stream.estimation.classical.sparse import ROTATION_FOCAL_FACTORS
from da3stream.estimation.classical.view_graph import ViewGraph
from da3stream.geometry.rigid3 import rotation_angle


def _without(graph, dropped):
    kept = [row for row, pair in enumerate(graph.pairs.tolist()) if not dropped(*pair)]
    return ViewGraph(
        keypoints=graph.keypoints,
        pairs=graph.pairs[kept],
        two_views=tuple(graph.two_views[row] for row in kept),
    )


def _errors_deg(poses, truth):
    relative = poses[:, :, :3] @ np.swapaxes(truth[:, :, :3] @ truth[0, :, :3].T, 1, 2)
    return np.degrees(rotation_angle(relative))


def test_turning_camera_has_no_parallax_and_moving_one_has(make_world, turning_poses, orbit_poses):
    turning = make_world(turning_poses(12, step_deg=1.5), noise_px=0.3)
    moving = make_world(orbit_poses(12), noise_px=0.3)
    assert parallax_px(turning.graph, turning.truth.intrinsics) < PARALLAX_PX
    assert parallax_px(moving.graph, moving.truth.intrinsics) > 4 * PARALLAX_PX


def test_standing_still_has_no_parallax(make_world, turning_poses):
    still = make_world(turning_poses(6, step_deg=0.0), noise_px=0.3)
    assert parallax_px(still.graph, still.truth.intrinsics) < PARALLAX_PX


def test_a_few_moving_things_are_no_parallax(make_world, turning_poses):
    crowded = make_world(turning_poses(12, step_deg=1.5), noise_px=0.3, outlier_share=0.07)
    assert parallax_px(crowded.graph, crowded.truth.intrinsics) < PARALLAX_PX


def test_wrong_focal_needs_several_hypotheses(make_world, turning_poses):
    turning = make_world(turning_poses(12, step_deg=2.5), noise_px=0.2)
    wrong = turning.truth.intrinsics.copy()
    wrong[:, [0, 1], [0, 1]] *= 0.6
    assert parallax_px(turning.graph, wrong) > PARALLAX_PX
    assert parallax_px(turning.graph, wrong, ROTATION_FOCAL_FACTORS) < PARALLAX_PX


def test_several_hypotheses_do_not_hide_motion(make_world, orbit_poses):
    moving = make_world(orbit_poses(12), noise_px=0.3)
    assert parallax_px(moving.graph, moving.truth.intrinsics, ROTATION_FOCAL_FACTORS) > 4 * PARALLAX_PX


def test_nothing_matched_is_no_parallax(orbit):
    empty = _without(orbit.graph, lambda a, b: True)
    assert parallax_px(empty, orbit.truth.intrinsics) == 0.0


def test_chain_is_right(make_world, turning_poses):
    truth = turning_poses(20, step_deg=1.5)
    world = make_world(truth, noise_px=0.3, outlier_share=0.05)
    poses = rotation_chain(world.graph, world.truth.intrinsics)
    assert _errors_deg(poses, truth).max() < 0.1
    assert not poses[:, :, 3].any()


def test_chain_steps_over_a_missing_pair(make_world, turning_poses):
    truth = turning_poses(10, step_deg=2.0)
    world = make_world(truth)
    poses = rotation_chain(_without(world.graph, lambda a, b: (a, b) == (4, 5)), world.truth.intrinsics)
    assert _errors_deg(poses, truth).max() < 1e-3


def test_image_without_matches_repeats_the_one_before(make_world, turning_poses):
    world = make_world(turning_poses(10, step_deg=2.0))
    poses = rotation_chain(_without(world.graph, lambda a, b: 6 in (a, b)), world.truth.intrinsics)
    np.testing.assert_array_equal(poses[6], poses[5])
    assert np.isfinite(poses).all()


@pytest.mark.parametrize("seed", range(3))
def test_fit_rotation_survives_outliers(seed):
    rng = np.random.default_rng(seed)
    truth = Rotation.random(random_state=seed).as_matrix()
    rays = rng.normal(size=(200, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    turned = rays @ truth.T
    turned[:50] = rays[:50]
    assert np.degrees(rotation_angle(fit_rotation(rays, turned) @ truth.T)) < 1e-3


def test_fit_rotation_is_never_a_reflection():
    rays = np.array([[0.0, 0.0, 1.0], [0.1, 0.0, 1.0], [0.2, 0.0, 1.0]])
    assert np.linalg.det(fit_rotation(rays, rays[::-1].copy())) == pytest.approx(1.0)


def test_arguments_are_not_written(orbit):
    before = replace(orbit.truth).intrinsics.copy()
    parallax_px(orbit.graph, orbit.truth.intrinsics, (0.5, 1.0))
    np.testing.assert_array_equal(orbit.truth.intrinsics, before)
