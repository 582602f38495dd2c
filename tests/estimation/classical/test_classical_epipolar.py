"""The score that chooses between reconstructions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream.estimation.classical.epipolar import epipolar_score, squared_sampson_error


def test_exact_poses_score_one(orbit):
    assert epipolar_score(orbit.truth, orbit.graph) > 0.9999


def test_noise_lowers_the_score_a_little_and_wrong_poses_a_lot(noisy_orbit):
    turned = noisy_orbit.truth.cam_from_submap.copy()
    turned[5, :, :3] = Rotation.from_euler("x", 1.0, degrees=True).as_matrix() @ turned[5, :, :3]
    truth = epipolar_score(noisy_orbit.truth, noisy_orbit.graph)
    wrong = epipolar_score(replace(noisy_orbit.truth, cam_from_submap=turned), noisy_orbit.graph)
    assert 0.5 < truth < 0.95
    assert wrong < truth - 0.05


def test_matches_of_an_unregistered_image_count_zero(orbit):
    registered = orbit.truth.registered.copy()
    registered[4] = False
    score = epipolar_score(replace(orbit.truth, registered=registered), orbit.graph)
    lost = sum(
        len(view.matches)
        for pair, view in zip(orbit.graph.pairs.tolist(), orbit.graph.two_views, strict=True)
        if 4 in pair
    )
    assert score == pytest.approx(1.0 - lost / orbit.graph.num_matches, abs=1e-3)


def test_scale_and_frame_do_not_matter(noisy_orbit):
    truth = noisy_orbit.truth
    scaled = truth.cam_from_submap.copy()
    scaled[:, :, 3] *= 7.0
    assert epipolar_score(replace(truth, cam_from_submap=scaled), noisy_orbit.graph) == pytest.approx(
        epipolar_score(truth, noisy_orbit.graph), abs=1e-9
    )


def test_cameras_on_one_spot_explain_nothing(orbit):
    frozen = np.repeat(orbit.truth.cam_from_submap[:1], 9, axis=0)
    assert epipolar_score(replace(orbit.truth, cam_from_submap=frozen), orbit.graph) == 0.0


def test_sampson_error_of_a_sideways_step():
    """For F = [e_x] the epipolar lines are the rows: an offset of d px costs d^2 / 2."""
    fundamental = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    first = np.array([[10.0, 20.0], [30.0, 40.0]])
    second = first + np.array([[5.0, 0.0], [8.0, 3.0]])
    np.testing.assert_allclose(squared_sampson_error(fundamental, first, second), [0.0, 4.5], atol=1e-12)
