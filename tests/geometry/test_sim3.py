"""The laws of Sim(3), over batch shapes, near the identity, with tiny angles and near half a turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.geometry.sim3 import Sim3, skew

LAW = settings(max_examples=60, deadline=None)

BATCHES = st.sampled_from([(), (1,), (4,), (2, 3)])
ANGLES_RAD = st.one_of(
    st.sampled_from([0.0, 1e-300, 1e-12, 1e-8, 1e-5, np.pi - 1e-4, np.pi - 1e-7]),
    st.floats(1e-3, np.pi - 1e-3),
)
LENGTHS = st.sampled_from([0.0, 1e-9, 1.0, 300.0])
LOG_SCALES = st.one_of(st.sampled_from([0.0, 1e-12, -1e-7]), st.floats(-4.0, 4.0))


@st.composite
def tangents(draw: st.DrawFn, batch: tuple[int, ...] | None = None) -> np.ndarray:
    """(..., 7) tangents whose rotation angle is at most pi, so that log inverts exp."""
    batch = draw(BATCHES) if batch is None else batch
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axis = rng.normal(size=(*batch, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    tangent = np.empty((*batch, 7))
    tangent[..., :3] = draw(ANGLES_RAD) * axis
    tangent[..., 3:6] = draw(LENGTHS) * rng.normal(size=(*batch, 3))
    tangent[..., 6] = draw(LOG_SCALES)
    return tangent


@st.composite
def same_shaped(draw: st.DrawFn, count: int) -> list[Sim3]:
    """`count` transforms of one batch shape."""
    batch = draw(BATCHES)
    return [Sim3.exp(draw(tangents(batch))) for _ in range(count)]


def assert_same(first: Sim3, second: Sim3, relative: float = 1e-9) -> None:
    """Equal up to rounding, translations relative to their own size."""
    unit = np.abs(np.stack([first.translation, second.translation])).max(initial=1.0)
    np.testing.assert_allclose(first.scale, second.scale, rtol=relative)
    np.testing.assert_allclose(first.rotation, second.rotation, atol=relative)
    np.testing.assert_allclose(first.translation, second.translation, atol=relative * unit)


def points_for(transform: Sim3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*transform.scale.shape, 3))


@LAW
@given(same_shaped(3))
def test_composition_is_associative(transforms: list[Sim3]) -> None:
    a, b, c = transforms
    assert_same((a @ b) @ c, a @ (b @ c))


@LAW
@given(same_shaped(2))
def test_a_composition_applies_the_right_one_first(transforms: list[Sim3]) -> None:
    a, b = transforms
    points = points_for(a)
    composed, stepwise = (a @ b).apply(points), a.apply(b.apply(points))
    np.testing.assert_allclose(composed, stepwise, atol=1e-9 * max(1.0, np.abs(stepwise).max()))


@LAW
@given(same_shaped(1))
def test_a_transform_and_its_inverse_cancel_on_both_sides(transforms: list[Sim3]) -> None:
    (transform,) = transforms
    identity = Sim3.identity(transform.scale.shape)
    unit = 1e-10 * (1 + np.abs(transform.inverse().translation).max() + np.abs(transform.translation).max())
    for product in (transform @ transform.inverse(), transform.inverse() @ transform):
        np.testing.assert_allclose(product.scale, identity.scale, rtol=1e-12)
        np.testing.assert_allclose(product.rotation, identity.rotation, atol=1e-12)
        np.testing.assert_allclose(product.translation, identity.translation, atol=unit)


@LAW
@given(same_shaped(1))
def test_the_identity_changes_nothing(transforms: list[Sim3]) -> None:
    (transform,) = transforms
    identity = Sim3.identity(transform.scale.shape)
    assert_same(identity @ transform, transform)
    assert_same(transform @ identity, transform)
    np.testing.assert_array_equal(identity.log(), np.zeros((*transform.scale.shape, 7)))


@LAW
@given(tangents())
def test_log_inverts_exp(tangent: np.ndarray) -> None:
    log = Sim3.exp(tangent).log()
    angle = np.linalg.norm(tangent[..., :3], axis=-1).max(initial=0.0)
    # At half a turn the axis is known to the square root of the rounding only, and its sign not at all.
    tolerance = 1e-7 if angle > np.pi - 1e-3 else 1e-10
    unit = max(1.0, np.abs(tangent[..., 3:6]).max(initial=0.0))
    np.testing.assert_allclose(log[..., :3], tangent[..., :3], atol=tolerance)
    np.testing.assert_allclose(log[..., 3:6], tangent[..., 3:6], atol=tolerance * unit)
    np.testing.assert_allclose(log[..., 6], tangent[..., 6], atol=1e-12)


@LAW
@given(same_shaped(1))
def test_exp_inverts_log(transforms: list[Sim3]) -> None:
    (transform,) = transforms
    assert_same(Sim3.exp(transform.log()), transform, relative=1e-7)


@pytest.mark.parametrize("angle_rad", [1e-12, 1e-8, 1e-4])
def test_log_keeps_the_digits_of_tiny_angles(angle_rad: float) -> None:
    tangent = np.array([angle_rad, -2 * angle_rad, 0.5 * angle_rad, 1.0, 2.0, 3.0, 1e-9])
    np.testing.assert_allclose(Sim3.exp(tangent).log(), tangent, rtol=1e-7)


def test_log_of_half_a_turn_has_an_angle_of_pi() -> None:
    turn = Sim3(scale=2.0, rotation=np.diag([1.0, -1.0, -1.0]), translation=np.array([1.0, 2.0, 3.0]))
    assert np.linalg.norm(turn.log()[:3]) == pytest.approx(np.pi)
    assert_same(Sim3.exp(turn.log()), turn)


@LAW
@given(tangents())
def test_exp_is_the_matrix_exponential_of_its_generator(tangent: np.ndarray) -> None:
    generator = np.zeros((*tangent.shape[:-1], 4, 4))
    generator[..., :3, :3] = skew(tangent[..., :3]) + tangent[..., 6, None, None] * np.eye(3)
    generator[..., :3, 3] = tangent[..., 3:6]
    expected = scipy.linalg.expm(generator)
    matrix = Sim3.exp(tangent).matrix()
    np.testing.assert_allclose(matrix, expected, atol=1e-11 * max(1.0, np.abs(expected).max(initial=0.0)))


@LAW
@given(same_shaped(1), st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 0.1, 1.0]))
def test_the_adjoint_moves_a_perturbation_to_the_other_side(
    transforms: list[Sim3], seed: int, size: float
) -> None:
    (transform,) = transforms
    delta = size * np.random.default_rng(seed).normal(size=(*transform.scale.shape, 7))
    moved = (transform.adjoint() @ delta[..., None])[..., 0]
    assert_same(transform @ Sim3.exp(delta), Sim3.exp(moved) @ transform, relative=1e-8)


@LAW
@given(same_shaped(1))
def test_rotations_stay_proper(transforms: list[Sim3]) -> None:
    (transform,) = transforms
    rotation = transform.rotation
    identity = np.broadcast_to(np.eye(3), rotation.shape)
    np.testing.assert_allclose(rotation @ np.swapaxes(rotation, -1, -2), identity, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), np.ones(transform.scale.shape), atol=1e-12)


@LAW
@given(same_shaped(1))
def test_apply_agrees_with_the_homogeneous_matrix(transforms: list[Sim3]) -> None:
    (transform,) = transforms
    points = points_for(transform)
    homogeneous = np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1)
    expected = (transform.matrix() @ homogeneous[..., None])[..., :3, 0]
    np.testing.assert_allclose(
        transform.apply(points), expected, atol=1e-10 * max(1.0, np.abs(expected).max())
    )


def test_one_transform_takes_any_number_of_points() -> None:
    transform = Sim3.exp([0.3, -0.2, 0.9, 1.0, 2.0, 3.0, 0.7])
    points = np.random.default_rng(0).normal(size=(5, 4, 3))
    expected = [[transform.apply(point) for point in row] for row in points]
    np.testing.assert_allclose(transform.apply(points), expected, atol=1e-13)
    assert transform.apply(np.zeros((0, 3))).shape == (0, 3)


def test_a_batch_takes_a_point_each() -> None:
    tangents_of_batch = np.random.default_rng(1).normal(size=(4, 7))
    points = np.random.default_rng(2).normal(size=(4, 3))
    expected = [
        Sim3.exp(tangent).apply(point) for tangent, point in zip(tangents_of_batch, points, strict=True)
    ]
    np.testing.assert_allclose(Sim3.exp(tangents_of_batch).apply(points), expected, atol=1e-12)


@LAW
@given(same_shaped(2))
def test_move_pose_keeps_what_the_camera_sees(transforms: list[Sim3]) -> None:
    """A point seen from a moved camera is the old one, times the scale."""
    a_from_b, pose = transforms
    b_from_cam = Sim3(scale=np.ones(pose.scale.shape), rotation=pose.rotation, translation=pose.translation)
    a_from_cam = a_from_b.move_pose(b_from_cam.matrix())
    np.testing.assert_allclose(np.linalg.det(a_from_cam[..., :3, :3]), np.ones(pose.scale.shape), atol=1e-11)
    np.testing.assert_array_equal(
        a_from_cam[..., 3, :], np.broadcast_to([0.0, 0, 0, 1], a_from_cam.shape[:-1])
    )
    point_in_cam = points_for(pose)
    point_in_a = a_from_b.apply(b_from_cam.apply(point_in_cam))
    scaled = a_from_b.scale[..., None] * point_in_cam
    seen = (a_from_cam[..., :3, :3] @ scaled[..., None])[..., 0] + a_from_cam[..., :3, 3]
    np.testing.assert_allclose(seen, point_in_a, atol=1e-9 * max(1.0, np.abs(point_in_a).max()))


def test_one_transform_moves_many_poses() -> None:
    a_from_b = Sim3.exp([0.1, 0.2, 0.3, 4.0, 5.0, 6.0, -0.4])
    poses = Sim3.exp(np.random.default_rng(3).normal(size=(5, 7)) * [1, 1, 1, 1, 1, 1, 0]).matrix()
    np.testing.assert_allclose(
        a_from_b.move_pose(poses), [a_from_b.move_pose(pose) for pose in poses], atol=1e-12
    )


def test_nothing_writes_to_its_arguments() -> None:
    transform = Sim3.exp(np.random.default_rng(4).normal(size=(3, 7)))
    points, poses = np.random.default_rng(5).normal(size=(3, 3)), Sim3.identity((3,)).matrix()
    before = [array.copy() for array in (transform.rotation, transform.translation, points, poses)]
    (
        transform.log(),
        transform.inverse(),
        transform.adjoint(),
        transform.apply(points),
        transform.move_pose(poses),
    )
    for array, copy in zip((transform.rotation, transform.translation, points, poses), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"scale": 0.0, "rotation": np.eye(3), "translation": np.zeros(3)}, "scale must be > 0"),
        ({"scale": -1.0, "rotation": np.eye(3), "translation": np.zeros(3)}, "scale must be > 0"),
        ({"scale": np.nan, "rotation": np.eye(3), "translation": np.zeros(3)}, "scale must be > 0"),
        ({"scale": np.ones(2), "rotation": np.eye(3), "translation": np.zeros(3)}, "do not fit"),
        ({"scale": 1.0, "rotation": np.eye(4), "translation": np.zeros(3)}, "do not fit"),
        ({"scale": 1.0, "rotation": np.eye(3), "translation": np.zeros((1, 3))}, "do not fit"),
    ],
)
def test_wrong_shapes_and_scales_are_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Sim3(**fields)


def test_skew_is_the_cross_product() -> None:
    a, b = np.random.default_rng(6).normal(size=(2, 4, 3))
    np.testing.assert_allclose((skew(a) @ b[..., None])[..., 0], np.cross(a, b), atol=1e-12)
