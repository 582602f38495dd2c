"""Rigid transforms as arrays, against scipy and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from da3stream.geometry import rigid3

LAW = settings(max_examples=50, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
BATCHES = st.sampled_from([(), (1,), (5,), (2, 3)])


def random_rigid(seed: int, batch: tuple[int, ...], rows: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    count = int(np.prod(batch, dtype=int))
    rigid = np.zeros((count, 4, 4))
    rigid[:, :3, :3] = Rotation.from_quat(rng.normal(size=(count, 4))).as_matrix().reshape(count, 3, 3)
    rigid[:, :3, 3] = rng.normal(scale=10, size=(count, 3))
    rigid[:, 3, 3] = 1
    return rigid.reshape(*batch, 4, 4)[..., :rows, :]


@LAW
@given(SEEDS, BATCHES, st.sampled_from([3, 4]))
def test_invert_is_the_matrix_inverse_in_the_shape_given(
    seed: int, batch: tuple[int, ...], rows: int
) -> None:
    rigid = random_rigid(seed, batch, rows)
    before = rigid.copy()
    inverse = rigid3.invert(rigid)
    assert inverse.shape == rigid.shape
    np.testing.assert_allclose(rigid3.to_4x4(inverse), np.linalg.inv(rigid3.to_4x4(rigid)), atol=1e-12)
    np.testing.assert_allclose(rigid3.invert(inverse), rigid, atol=1e-12)
    np.testing.assert_array_equal(rigid, before)


@LAW
@given(SEEDS, BATCHES)
def test_to_4x4_appends_the_last_row_once(seed: int, batch: tuple[int, ...]) -> None:
    rigid = random_rigid(seed, batch, 3)
    full = rigid3.to_4x4(rigid)
    np.testing.assert_array_equal(full[..., :3, :], rigid)
    np.testing.assert_array_equal(full[..., 3, :], np.broadcast_to([0, 0, 0, 1], (*batch, 4)))
    np.testing.assert_array_equal(rigid3.to_4x4(full), full)


@LAW
@given(SEEDS, BATCHES)
def test_quaternions_round_trip_with_w_first_and_not_negative(seed: int, batch: tuple[int, ...]) -> None:
    rotation = random_rigid(seed, batch, 3)[..., :3]
    quaternion_wxyz = rigid3.quaternion_wxyz(rotation)
    assert quaternion_wxyz.shape == (*batch, 4)
    assert (quaternion_wxyz[..., 0] >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(quaternion_wxyz, axis=-1), np.ones(batch), rtol=1e-12)
    np.testing.assert_allclose(rigid3.rotation_from_quaternion_wxyz(quaternion_wxyz), rotation, atol=1e-12)
    np.testing.assert_allclose(
        rigid3.rotation_from_quaternion_wxyz(-3 * quaternion_wxyz), rotation, atol=1e-12
    )


def test_the_quaternion_of_a_quarter_turn_about_z() -> None:
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(
        rigid3.quaternion_wxyz(quarter), [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-15
    )


def test_a_quaternion_of_length_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="zero norm"):
        rigid3.rotation_from_quaternion_wxyz(np.zeros(4))


@LAW
@given(SEEDS, BATCHES, st.sampled_from([0.2, 5.0]))
def test_a_disturbed_rotation_goes_to_the_nearest_proper_one(
    seed: int, batch: tuple[int, ...], noise: float
) -> None:
    """No small turn brings the result nearer to the matrix that was given, be it a reflection."""
    rng = np.random.default_rng(seed)
    matrices = random_rigid(seed, batch, 3)[..., :3] + noise * rng.normal(size=(*batch, 3, 3))
    nearest = rigid3.nearest_rotation(matrices)
    np.testing.assert_allclose(np.linalg.det(nearest), np.ones(batch), atol=1e-9)
    distance = np.linalg.norm(nearest - matrices, axis=(-1, -2))
    for turn in (0.01 * np.eye(3)).tolist():
        for sign in (-1, 1):
            turned = nearest @ Rotation.from_rotvec(sign * np.array(turn)).as_matrix()
            assert (np.linalg.norm(turned - matrices, axis=(-1, -2)) >= distance).all()


@LAW
@given(SEEDS, st.floats(0.0, 1.0))
def test_the_mean_of_two_rotations_lies_on_the_way_between_them(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    first = Rotation.from_quat(rng.normal(size=4))
    turn = rng.normal(size=3)
    turn *= 0.2 / np.linalg.norm(turn)
    second = first * Rotation.from_rotvec(turn)
    mean = rigid3.nearest_rotation((1 - share) * first.as_matrix() + share * second.as_matrix())
    np.testing.assert_allclose(mean @ mean.T, np.eye(3), atol=1e-12)
    way = (first.inv() * Rotation.from_matrix(mean)).as_rotvec()
    np.testing.assert_allclose(np.cross(way, turn), np.zeros(3), atol=1e-9)
    # The chordal mean is the geodesic one up to the third order of the angle.
    assert way @ turn / 0.2 == pytest.approx(0.2 * share, abs=2e-4)


def test_the_mean_rotation_does_not_depend_on_a_common_factor_of_the_weights() -> None:
    rotations = random_rigid(1, (4,), 3)[..., :3]
    mean = np.einsum("k,kij->ij", np.array([0.5, 29.5, 3.0, 7.0]), rotations)
    np.testing.assert_allclose(
        rigid3.nearest_rotation(mean), rigid3.nearest_rotation(1e-6 * mean), atol=1e-12
    )


@LAW
@given(SEEDS, st.floats(0, np.pi))
def test_rotation_angle(seed: int, angle_rad: float) -> None:
    axis = np.random.default_rng(seed).normal(size=3)
    rotation = Rotation.from_rotvec(angle_rad * axis / np.linalg.norm(axis)).as_matrix()
    assert rigid3.rotation_angle(rotation) == pytest.approx(angle_rad, abs=1e-7)
    assert rigid3.rotation_angle(np.broadcast_to(rotation, (2, 3, 3, 3))).shape == (2, 3)
