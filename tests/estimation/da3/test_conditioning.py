"""Known poses into the network's form and back out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.errors import EstimationError
from da3stream.estimation.da3.conditioning import align_to_given, fit_camera_centres, normalise_extrinsics
from da3stream.geometry.sim3 import Sim3
from tests.estimation.da3.golden import FOLDER, load, relative_error

Array = NDArray[np.float64]
LAW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def poses(seed: int, views: int) -> Array:
    """(N, 4, 4) cam_from_world of random cameras."""
    random = np.random.default_rng(seed)
    result = np.tile(np.eye(4), (views, 1, 1))
    result[:, :3, :3] = Rotation.random(views, rng=random).as_matrix()
    result[:, :3, 3] = random.normal(size=(views, 3)) * 3
    return result


def in_frame(cam_from_b: Array, a_from_b: Sim3) -> Array:
    """(N, 4, 4) the same cameras in frame a, by the 4 x 4 matrix of the similarity."""
    b_from_a = np.linalg.inv(a_from_b.matrix())
    moved = cam_from_b @ b_from_a
    moved[:, :3] *= a_from_b.scale
    return moved


def similarity(seed: int) -> Sim3:
    random = np.random.default_rng(seed + 1)
    return Sim3(
        scale=float(random.uniform(0.2, 5)),
        rotation=Rotation.random(rng=random).as_matrix(),
        translation=random.normal(size=3),
    )


@LAW
@given(SEEDS, st.integers(1, 8))
def test_normalised_poses_start_at_the_identity_and_have_unit_median(seed: int, views: int) -> None:
    normalised = normalise_extrinsics(poses(seed, views))
    assert normalised.shape == (views, 4, 4)
    np.testing.assert_allclose(normalised[0], np.eye(4), atol=1e-12)
    distances = np.sort(np.linalg.norm(normalised[:, :3, 3], axis=1))
    if views > 2:
        assert distances[(views - 1) // 2] == pytest.approx(1)


@LAW
@given(SEEDS)
def test_normalised_poses_do_not_depend_on_world_frame_and_unit(seed: int) -> None:
    given_poses = poses(seed, 5)
    elsewhere = in_frame(given_poses, similarity(seed))
    np.testing.assert_allclose(normalise_extrinsics(elsewhere), normalise_extrinsics(given_poses), atol=1e-9)


def test_cameras_that_hardly_move_are_not_blown_up() -> None:
    still = np.tile(np.eye(4), (5, 1, 1))
    still[1:, 0, 3] = 1e-3
    np.testing.assert_allclose(normalise_extrinsics(still)[1:, 0, 3], 1e-2)


@LAW
@given(SEEDS, st.sampled_from([3, 5, 9, 10, 16]))
def test_the_given_world_is_kept_and_depth_gets_its_unit(seed: int, views: int) -> None:
    given_poses, to_prediction = poses(seed, views), similarity(seed)
    predicted = in_frame(given_poses, to_prediction)
    depth = np.full((views, 2, 3), 4.0, dtype=np.float32)
    aligned = align_to_given(depth, predicted[:, :3], given_poses)
    assert aligned.world_is_given
    np.testing.assert_array_equal(aligned.cam_from_world, given_poses[:, :3])
    np.testing.assert_allclose(aligned.depth, 4.0 / to_prediction.scale, rtol=1e-6)


@LAW
@given(SEEDS, st.sampled_from([3, 12]))
def test_given_poses_can_move_into_the_predicted_world(seed: int, views: int) -> None:
    given_poses = poses(seed, views)
    predicted = in_frame(given_poses, similarity(seed))
    depth = np.full((views, 2, 3), 4.0)
    aligned = align_to_given(depth, predicted, given_poses, keep_given=False)
    assert not aligned.world_is_given
    np.testing.assert_allclose(aligned.cam_from_world, predicted[:, :3], atol=1e-6)
    np.testing.assert_array_equal(aligned.depth, depth)


@pytest.mark.parametrize("wrong", [[0], [11], [3, 8]])
def test_a_few_wrong_predictions_are_left_out(wrong: list[int]) -> None:
    given_poses, expected = poses(1, 12), similarity(2)
    predicted = in_frame(given_poses, expected)
    predicted[:, :3, 3] += np.random.default_rng(3).normal(size=(12, 3)) * 1e-3
    predicted[wrong, :3, 3] += 20.0
    fit = fit_camera_centres(predicted, given_poses)
    assert fit.scale == pytest.approx(expected.scale, rel=1e-2)
    np.testing.assert_allclose(fit.rotation, expected.rotation, atol=1e-2)


@pytest.mark.parametrize("views", [1, 4, 12])
def test_cameras_that_do_not_move_tell_no_scale(views: int) -> None:
    still = np.tile(np.eye(4), (views, 1, 1))
    with pytest.raises(EstimationError, match=f"got {views} cameras"):
        align_to_given(np.ones((views, 2, 2)), poses(0, views), still)


def test_arguments_stay_as_they_are() -> None:
    given_poses, predicted, depth = poses(0, 5), poses(1, 5), np.ones((5, 2, 2))
    copies: list[NDArray[Any]] = [given_poses.copy(), predicted.copy()]
    normalise_extrinsics(given_poses)
    for keep_given in (True, False):
        align_to_given(depth, predicted, given_poses, keep_given=keep_given)
    np.testing.assert_array_equal(given_poses, copies[0])
    np.testing.assert_array_equal(predicted, copies[1])
    np.testing.assert_array_equal(depth, 1.0)


@pytest.mark.parametrize("views", [1, 5, 12])
def test_published_normalisation(views: int) -> None:
    golden = load(FOLDER / "api_geometry.npz")
    ours = normalise_extrinsics(golden[f"norm{views}.in"].numpy())
    assert relative_error(ours, golden[f"norm{views}.out"]) < 1e-6


@pytest.mark.parametrize("case", ["align5", "align12"])
def test_published_alignment(case: str) -> None:
    """Of the twelve views two are far off."""
    golden = load(FOLDER / "api_geometry.npz")
    predicted, given_poses = golden[f"{case}.pred"].numpy(), golden[f"{case}.input"].numpy()
    fit = fit_camera_centres(predicted, given_poses)
    assert relative_error(fit.scale, golden[f"{case}.s"]) < 1e-6
    assert relative_error(fit.rotation, golden[f"{case}.r"]) < 1e-6
    assert relative_error(fit.translation, golden[f"{case}.t"]) < 1e-6
    depth = np.full((len(predicted), 2, 2), 2.0)
    for name, keep_given in (("scale", True), ("pose", False)):
        aligned = align_to_given(depth, predicted, given_poses, keep_given=keep_given)
        assert relative_error(aligned.depth, golden[f"{case}.{name}.depth"]) < 1e-6
        expected = golden[f"{case}.{name}.extrinsics"][:, :3]
        assert relative_error(aligned.cam_from_world, expected) < 1e-6
