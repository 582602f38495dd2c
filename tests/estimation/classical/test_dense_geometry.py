"""Pairs of views: projection, triangulation, parallax and the choice of neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream.estimation.classical.dense.neighbours import (
    SWEEP_REACH,
    Parallax,
    flow_pairs,
    measure_parallax,
    sweep_sources,
)
from da3stream.estimation.classical.dense.triangulation import sensitivity_px, triangulate
from da3stream.estimation.classical.dense.views import Rays, Views, pixel_centres, small_views

SIZE = (64, 48)
MATRIX = np.array([[70.0, 0, 33.0], [0, 68.0, 23.0], [0, 0, 1]])


def views_at(centres: np.ndarray, rotations: Rotation | None = None) -> Views:
    """Views with camera centres (N, 3) and rotations cam_from_world (none: no rotation)."""
    n = len(centres)
    matrices = np.stack([np.eye(3)] * n) if rotations is None else rotations.as_matrix()
    translations = -np.einsum("nij,nj->ni", matrices, centres)
    return Views(
        grey=np.zeros((n, SIZE[1], SIZE[0]), np.uint8),
        intrinsics=np.stack([MATRIX] * n),
        cam_from_submap=np.concatenate([matrices, translations[..., None]], axis=-1),
    )


@pytest.fixture
def two_views() -> Views:
    rotations = Rotation.from_rotvec([[0.02, -0.05, 0.03], [-0.03, 0.04, 0.01]])
    return views_at(np.array([[0.1, 0.2, -0.3], [0.5, 0.1, 0.2]]), rotations)


def projected(views: Views, depth: np.ndarray) -> np.ndarray:
    """Pixels (h, w, 2) of view 1 where the pixels of view 0 with this depth appear, by the long way round."""
    x, y = np.broadcast_arrays(*pixel_centres(SIZE))
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(MATRIX).T
    poses = views.cam_from_submap
    world = (rays * depth[..., None] - poses[0][:, 3]) @ poses[0][:, :3]
    there = (world @ poses[1][:, :3].T + poses[1][:, 3]) @ MATRIX.T
    return there[..., :2] / there[..., 2:]


def test_plane_homography_is_the_projection_of_a_plane(two_views: Views) -> None:
    want = projected(two_views, np.full(SIZE[::-1], 4.0))
    x, y = np.broadcast_arrays(*pixel_centres(SIZE))
    got = np.stack([x, y, np.ones_like(x)], axis=-1) @ two_views.pair(0, 1).plane_homography(0.25).T
    np.testing.assert_allclose(got[..., :2] / got[..., 2:], want, atol=1e-4)


def test_triangulation_inverts_projection(two_views: Views) -> None:
    depth = np.random.default_rng(0).uniform(2, 9, SIZE[::-1])
    target = projected(two_views, depth).astype(np.float32)
    pair = two_views.pair(0, 1)
    found = triangulate(pair, Rays.at(pair, *pixel_centres(SIZE)), target[..., 0], target[..., 1])
    np.testing.assert_allclose(found.inverse_depth, 1 / depth, rtol=2e-3)
    assert found.residual_px.max() < 1e-3


def test_residual_is_the_distance_from_the_epipolar_line(two_views: Views) -> None:
    near, far = (projected(two_views, np.full(SIZE[::-1], z)) for z in (3.99, 4.01))
    along = (far - near) / np.linalg.norm(far - near, axis=-1, keepdims=True)
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    target = (projected(two_views, np.full(SIZE[::-1], 4.0)) + 0.7 * across).astype(np.float32)
    pair = two_views.pair(0, 1)
    found = triangulate(pair, Rays.at(pair, *pixel_centres(SIZE)), target[..., 0], target[..., 1])
    np.testing.assert_allclose(found.residual_px, 0.7, rtol=0.02)
    np.testing.assert_allclose(found.inverse_depth, 0.25, rtol=0.02)


def test_sensitivity_is_the_derivative_of_the_projection(two_views: Views) -> None:
    step = 1e-4
    moved = [projected(two_views, np.full(SIZE[::-1], 1 / w)) for w in (0.25 - step, 0.25 + step)]
    want = np.linalg.norm(moved[1] - moved[0], axis=-1) / (2 * step)
    pair = two_views.pair(0, 1)
    inverse_depth = np.full(SIZE[::-1], 0.25, np.float32)
    got = sensitivity_px(pair, Rays.at(pair, *pixel_centres(SIZE)), inverse_depth)
    np.testing.assert_allclose(got, want, rtol=1e-3)


def test_parallax_of_a_sideways_step_is_focal_times_baseline_over_depth() -> None:
    parallax = measure_parallax(views_at(np.array([[0.0, 0, 0], [0.2, 0, 0]])), np.array([0.25, 0.25]))
    np.testing.assert_allclose(parallax.displacement_px[0, 1], 70 * 0.2 * 0.25, rtol=1e-4)
    assert parallax.overlap[0, 1] > 0.8


def test_rotation_has_no_parallax() -> None:
    turning = views_at(np.zeros((3, 3)), Rotation.from_euler("y", [[0], [3], [6]], degrees=True))
    parallax = measure_parallax(turning, np.ones(3))
    assert parallax.displacement_px.max() < 1e-3
    assert flow_pairs(parallax) == []
    assert sweep_sources(parallax, 1).all == ()


def test_camera_that_looks_back_does_not_overlap() -> None:
    opposite = views_at(
        np.array([[0.0, 0, 0], [1.0, 0, 0]]), Rotation.from_euler("y", [[0], [180]], degrees=True)
    )
    np.testing.assert_array_equal(measure_parallax(opposite, np.ones(2)).overlap, np.eye(2))


def steady(step_px: float, count: int = 40) -> Parallax:
    offset = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    return Parallax(displacement_px=offset * step_px, overlap=np.ones((count, count)))


def test_sources_have_small_middle_and_large_parallax_on_both_sides() -> None:
    sources = sweep_sources(steady(2.5), 20)
    assert sources.earlier == (18, 16, 12)
    assert sources.later == (22, 24, 28)
    assert sources.sides == (sources.earlier, sources.later)


def test_first_frame_has_later_sources_only() -> None:
    sources = sweep_sources(steady(5.0), 0)
    assert sources.sides == (sources.later,)


def test_sources_stay_within_reach() -> None:
    assert all(abs(j - 20) <= SWEEP_REACH for j in sweep_sources(steady(0.3), 20).all)


def test_sources_beyond_reach_help_where_the_camera_stood_still() -> None:
    sources = sweep_sources(steady(0.2), 20)
    assert sources.all
    assert all(abs(j - 20) > SWEEP_REACH for j in sources.all)


def test_flow_pairs_are_unordered_and_unique() -> None:
    assert flow_pairs(steady(4.0, count=4)) == [(0, 1), (1, 2), (2, 3)]
    assert flow_pairs(steady(2.4, count=5)) == [(0, 2), (1, 3), (2, 4)]


def test_frames_that_do_not_overlap_are_no_neighbours() -> None:
    apart = Parallax(displacement_px=steady(4.0).displacement_px, overlap=np.full((40, 40), 0.3))
    assert flow_pairs(apart) == []
    assert sweep_sources(apart, 20).all == ()


def test_small_views_keep_small_images_and_average_large_ones() -> None:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (2, 280, 504, 3), dtype=np.uint8)
    views = small_views(images, np.stack([MATRIX] * 2), np.zeros((2, 3, 4)))
    assert views.size == (336, 187)
    np.testing.assert_allclose(views.intrinsics[0], np.diag([336 / 504, 187 / 280, 1.0]) @ MATRIX)
    assert small_views(images[:, :48, :64], np.stack([MATRIX] * 2), np.zeros((2, 3, 4))).size == (64, 48)
