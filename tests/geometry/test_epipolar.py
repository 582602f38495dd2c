"""Two views: what their poses say of matches holds for every point that both see."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream.geometry.epipolar import (
    essential_matrix,
    fundamental_matrix,
    infinite_homography,
    second_from_first,
    squared_sampson_error,
)

WIDE = np.array([[500.0, 0.0, 320.0], [0.0, 510.0, 240.0], [0.0, 0.0, 1.0]])
LONG = np.array([[900.0, 0.0, 300.0], [0.0, 905.0, 200.0], [0.0, 0.0, 1.0]])
FIRST = np.eye(4)[:3]


def pose(turn_deg: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """(3, 4) cam_from_world."""
    return np.column_stack([Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix(), shift])


SECOND = pose((3, -8, 2), (-0.6, 0.1, 0.2))


def project(points: np.ndarray, cam_from_world: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """(K, 2) pixels of (K, 3) points."""
    in_image = (points @ cam_from_world[:, :3].T + cam_from_world[:, 3]) @ intrinsics.T
    return in_image[:, :2] / in_image[:, 2:]


@pytest.fixture
def points() -> np.ndarray:
    """(K, 3) before both cameras."""
    return np.random.default_rng(0).uniform([-2, -1, 4], [2, 1, 12], (50, 3))


def test_a_pure_shift_along_x_makes_epipolar_lines_of_the_rows() -> None:
    """Hartley, Zisserman, example 9.6: E = [t]x, and corresponding rays have equal heights."""
    essential = essential_matrix(FIRST, pose((0, 0, 0), (-1, 0, 0)))
    assert np.allclose(essential, [[0, 0, 0], [0, 0, 1], [0, -1, 0]])


def test_the_essential_matrix_has_two_equal_singular_values_and_none() -> None:
    singular = np.linalg.svd(essential_matrix(SECOND, pose((40, 5, 1), (2, 1, 0))), compute_uv=False)
    assert singular[0] == pytest.approx(singular[1])
    assert singular[2] == pytest.approx(0, abs=1e-12)


def test_the_relative_pose_takes_the_first_camera_s_points_to_the_second(points: np.ndarray) -> None:
    other = pose((10, 20, -30), (1, 2, 3))
    relative = second_from_first(SECOND, other)
    in_first = points @ SECOND[:, :3].T + SECOND[:, 3]
    in_second = points @ other[:, :3].T + other[:, 3]
    assert np.allclose(in_first @ relative[:, :3].T + relative[:, 3], in_second)


def test_projections_of_one_point_lie_on_each_other_s_epipolar_lines(points: np.ndarray) -> None:
    fundamental = fundamental_matrix(FIRST, SECOND, WIDE, LONG)
    error = squared_sampson_error(fundamental, project(points, FIRST, WIDE), project(points, SECOND, LONG))
    assert error.max() < 1e-16


def test_swapping_the_views_transposes_the_fundamental_matrix() -> None:
    one, other = fundamental_matrix(FIRST, SECOND, WIDE, LONG), fundamental_matrix(SECOND, FIRST, LONG, WIDE)
    assert np.allclose(one / one[2, 2], other.T / other[2, 2])


def test_the_sampson_error_is_the_distance_in_pixels(points: np.ndarray) -> None:
    """After a pure sideways shift a match that is d rows off is d / sqrt(2) from the nearest that fits, since
    both of its pixels may give way."""
    second = pose((0, 0, 0), (-1, 0, 0))
    fundamental = fundamental_matrix(FIRST, second, WIDE, WIDE)
    first_px, second_px = project(points, FIRST, WIDE), project(points, second, WIDE)
    off = squared_sampson_error(fundamental, first_px, second_px + np.array([0, 3]))
    along = squared_sampson_error(fundamental, first_px, second_px + np.array([40, 0]))
    assert np.allclose(off, 9 / 2)
    assert along.max() < 1e-16, "where on the line is a matter of depth"


def test_without_a_baseline_there_are_no_epipolar_lines(points: np.ndarray) -> None:
    turned = pose((5, 3, 1), (0, 0, 0))
    fundamental = fundamental_matrix(FIRST, turned, WIDE, WIDE)
    assert np.all(fundamental == 0)
    error = squared_sampson_error(fundamental, project(points, FIRST, WIDE), project(points, turned, WIDE))
    assert np.all(np.isinf(error)), "what says nothing must not count as a match"


def test_without_a_baseline_the_infinite_homography_takes_every_point(points: np.ndarray) -> None:
    turned = pose((5, 3, 1), (0, 0, 0))
    homography = infinite_homography(FIRST, turned, WIDE, LONG)
    moved = np.column_stack([project(points, FIRST, WIDE), np.ones(len(points))]) @ homography.T
    assert np.allclose(moved[:, :2] / moved[:, 2:], project(points, turned, LONG))


def test_far_points_follow_the_infinite_homography_however_the_camera_moves(points: np.ndarray) -> None:
    homography = infinite_homography(FIRST, SECOND, WIDE, WIDE)
    for distance, limit in ((1, 1000), (1e6, 1e-3)):
        far = distance * points
        moved = np.column_stack([project(far, FIRST, WIDE), np.ones(len(far))]) @ homography.T
        gap = np.abs(moved[:, :2] / moved[:, 2:] - project(far, SECOND, WIDE)).max()
        assert gap < limit
        assert gap > 10 or distance > 1, "near ones do not"
