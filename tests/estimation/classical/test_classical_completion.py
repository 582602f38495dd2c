"""Poses for what the mappers left over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from da3stream.estimation.classical.completion import interpolate_unregistered, normalised, register_by_pnp
from da3stream.estimation.classical.reconstruction import Reconstruction
from da3stream.geometry.rigid3 import rotation_angle


def _forget(reconstruction, images):
    """The reconstruction as if `images` had never been registered."""
    registered = reconstruction.registered.copy()
    registered[list(images)] = False
    poses = reconstruction.cam_from_submap.copy()
    poses[list(images)] = 0.0
    kept = registered[reconstruction.observations[:, 0]]
    return replace(
        reconstruction,
        registered=registered,
        cam_from_submap=poses,
        observations=reconstruction.observations[kept],
    )


def test_pnp_finds_the_poses_again(orbit):
    found = register_by_pnp(_forget(orbit.truth, [3, 8]), orbit.graph)
    assert found.registered.all()
    np.testing.assert_allclose(found.cam_from_submap, orbit.truth.cam_from_submap, atol=1e-4)


def test_pnp_with_noise_and_outliers(make_world, orbit_poses):
    world = make_world(orbit_poses(9), noise_px=0.5, outlier_share=0.15)
    found = register_by_pnp(_forget(world.truth, [4]), world.graph)
    relative = found.cam_from_submap[4, :, :3] @ world.truth.cam_from_submap[4, :, :3].T
    assert np.degrees(rotation_angle(relative)) < 0.2
    assert np.linalg.norm(found.cam_from_submap[4, :, 3] - world.truth.cam_from_submap[4, :, 3]) < 0.02


def test_pnp_goes_on_from_what_it_found(make_world, orbit_poses):
    """Images 6.. match only image 5, which itself has to be found first."""
    world = make_world(orbit_poses(9))
    graph = world.graph
    kept = [row for row, (a, b) in enumerate(graph.pairs.tolist()) if b <= 5 or a >= 5]
    chained = replace(graph, pairs=graph.pairs[kept], two_views=tuple(graph.two_views[row] for row in kept))
    found = register_by_pnp(_forget(world.truth, [5, 6, 7, 8]), chained)
    np.testing.assert_allclose(found.cam_from_submap, world.truth.cam_from_submap, atol=1e-4)


def test_too_few_points_register_nothing(orbit):
    forgotten = _forget(orbit.truth, [2])
    few = forgotten.observations[forgotten.observations[:, 2] < 8]
    found = register_by_pnp(replace(forgotten, observations=few), orbit.graph)
    assert not found.registered[2]
    assert found.num_registered == 8


def test_interpolation_lies_half_way_in_time(make_world, turning_poses):
    truth = turning_poses(5, step_deg=10.0)
    truth[:, 0, 3] = np.arange(5.0)
    world = make_world(truth)
    indices = np.array([10, 11, 13, 14, 15])
    filled = interpolate_unregistered(_forget(world.truth, [1]), indices)
    turned = np.degrees(rotation_angle(filled.cam_from_submap[1, :, :3]))
    assert turned == pytest.approx(20.0 / 3.0, abs=1e-6)
    np.testing.assert_array_equal(filled.cam_from_submap[[0, 2, 3, 4]], truth[[0, 2, 3, 4]])
    assert not filled.registered[1]


def test_ends_copy_their_neighbour(orbit):
    filled = interpolate_unregistered(_forget(orbit.truth, [0, 1, 8]), orbit.indices)
    np.testing.assert_allclose(filled.cam_from_submap[[0, 1]], filled.cam_from_submap[[2, 2]], atol=1e-12)
    np.testing.assert_allclose(filled.cam_from_submap[8], filled.cam_from_submap[7], atol=1e-12)


def test_one_registered_image_is_enough(orbit):
    filled = interpolate_unregistered(_forget(orbit.truth, range(8)), orbit.indices)
    np.testing.assert_allclose(filled.cam_from_submap, np.repeat(orbit.truth.cam_from_submap[8:], 9, axis=0))


def test_chunk_order_need_not_be_time_order(orbit):
    """A loop chunk holds frames of two places; the neighbours in time count, not those in the array."""
    indices = np.array([50, 51, 52, 53, 10, 11, 12, 13, 14])
    filled = interpolate_unregistered(_forget(orbit.truth, [4]), indices)
    np.testing.assert_allclose(filled.cam_from_submap[4], orbit.truth.cam_from_submap[5], atol=1e-12)


def test_normalised_starts_at_the_first_camera_with_median_depth_one(noisy_orbit):
    scaled = replace(
        noisy_orbit.truth,
        points=5.0 * noisy_orbit.truth.points + np.array([1.0, 2.0, 3.0]),
        cam_from_submap=np.concatenate(
            [
                noisy_orbit.truth.cam_from_submap[:, :, :3],
                5.0 * noisy_orbit.truth.cam_from_submap[:, :, 3:]
                - noisy_orbit.truth.cam_from_submap[:, :, :3] @ np.array([[1.0], [2.0], [3.0]]),
            ],
            axis=2,
        ),
    )
    result = normalised(scaled)
    np.testing.assert_array_equal(result.cam_from_submap[0], np.eye(4)[:3])
    assert np.median(result.observed_depths()) == pytest.approx(1.0)
    ratio = scaled.observed_depths() / result.observed_depths()
    np.testing.assert_allclose(ratio, ratio[0])


def test_normalised_without_points_keeps_the_scale(orbit):
    bare = Reconstruction(
        cam_from_submap=orbit.truth.cam_from_submap,
        registered=orbit.truth.registered,
        intrinsics=orbit.truth.intrinsics,
        points=np.zeros((0, 3)),
        observations=np.zeros((0, 3), np.int32),
    )
    np.testing.assert_allclose(normalised(bare).cam_from_submap, orbit.truth.cam_from_submap, atol=1e-12)
