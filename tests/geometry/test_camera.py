"""Pinhole cameras against brute force: which ray does a pixel see?"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.geometry.camera import Camera, pixel_rays, rescale_intrinsics, subsample_intrinsics, unproject

LAW = settings(max_examples=60, deadline=None)
INTRINSICS = np.array([[410.0, 0.0, 250.5], [0.0, 420.0, 141.25], [0.0, 0.0, 1.0]])
SIDES = st.integers(1, 3000)


def ray_through(intrinsics: np.ndarray, column: int, row: int) -> np.ndarray:
    """The ray with z = 1 through the centre of one pixel, by solving K ray = pixel."""
    return np.linalg.solve(intrinsics, [column + 0.5, row + 0.5, 1.0])


def test_pixel_rays_go_through_pixel_centres() -> None:
    rays = pixel_rays(INTRINSICS, 5, 7)
    assert rays.shape == (5, 7, 3)
    for row in range(5):
        for column in range(7):
            np.testing.assert_allclose(rays[row, column], ray_through(INTRINSICS, column, row), rtol=1e-13)


def test_the_middle_of_the_image_looks_straight_ahead() -> None:
    centred = np.array([[100.0, 0, 3.5], [0, 100, 2.5], [0, 0, 1]])
    np.testing.assert_array_equal(pixel_rays(centred, 5, 7)[2, 3], [0, 0, 1])


def test_unproject_gives_points_whose_z_is_the_depth_and_whose_projection_is_the_pixel() -> None:
    depth = np.random.default_rng(0).uniform(0.5, 9, size=(6, 8)).astype(np.float32)
    points = unproject(depth, INTRINSICS)
    np.testing.assert_allclose(points[..., 2], depth, rtol=1e-12)
    projected = points @ INTRINSICS.T
    pixels = projected[..., :2] / projected[..., 2:]
    rows, columns = np.mgrid[:6, :8]
    np.testing.assert_allclose(pixels, np.stack([columns, rows], axis=-1) + 0.5, atol=1e-9)


@LAW
@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 40))
def test_a_pixel_of_the_subsampled_image_sees_the_ray_of_the_pixel_that_was_picked(
    step: int, i: int, j: int
) -> None:
    small = subsample_intrinsics(INTRINSICS, step)
    picked = ray_through(INTRINSICS, step * i + step // 2, step * j + step // 2)
    np.testing.assert_allclose(ray_through(small, i, j), picked, atol=1e-12)


@LAW
@given(st.integers(1, 9), st.integers(1, 60), st.integers(1, 60))
def test_subsampling_a_depth_map_and_its_camera_picks_points(step: int, height: int, width: int) -> None:
    depth = np.random.default_rng(step).uniform(1, 2, size=(height, width))
    pick = slice(step // 2, None, step)
    small = unproject(depth[pick, pick], subsample_intrinsics(INTRINSICS, step))
    np.testing.assert_allclose(small, unproject(depth, INTRINSICS)[pick, pick], atol=1e-12)


@LAW
@given(SIDES, SIDES, SIDES, SIDES, st.floats(0, 1), st.floats(0, 1))
def test_resizing_keeps_the_ray_at_every_relative_place(
    width: int, height: int, new_width: int, new_height: int, across: float, down: float
) -> None:
    scaled = rescale_intrinsics(INTRINSICS, (width, height), (new_width, new_height))
    before = np.linalg.solve(INTRINSICS, [across * width, down * height, 1.0])
    after = np.linalg.solve(scaled, [across * new_width, down * new_height, 1.0])
    np.testing.assert_allclose(after, before, atol=1e-9)


@LAW
@given(SIDES, SIDES, SIDES, SIDES)
def test_resizing_twice_is_resizing_once(
    width: int, height: int, between_width: int, between_height: int
) -> None:
    size, between, final = (1920, 1080), (between_width, between_height), (width, height)
    twice = rescale_intrinsics(rescale_intrinsics(INTRINSICS, size, between), between, final)
    np.testing.assert_allclose(twice, rescale_intrinsics(INTRINSICS, size, final), rtol=1e-12)
    camera = Camera.from_matrix(INTRINSICS, *size)
    np.testing.assert_allclose(
        camera.resized(*between).resized(*final).matrix(), camera.resized(*final).matrix()
    )
    assert (camera.resized(*final).width, camera.resized(*final).height) == final


def test_the_exact_middle_stays_the_exact_middle() -> None:
    camera = Camera(fx=500.0, fy=500.0, cx=960.0, cy=540.0, width=1920, height=1080)
    small = camera.resized(504, 280)
    assert (small.cx, small.cy) == (252.0, 140.0)


def test_batches_of_intrinsics_are_handled_row_by_row_and_left_alone() -> None:
    batch = np.stack([INTRINSICS, 2 * INTRINSICS, 3 * INTRINSICS])
    before = batch.copy()
    rescaled, subsampled = rescale_intrinsics(batch, (10, 20), (5, 30)), subsample_intrinsics(batch, 4)
    for row in range(3):
        np.testing.assert_array_equal(rescaled[row], rescale_intrinsics(batch[row], (10, 20), (5, 30)))
        np.testing.assert_array_equal(subsampled[row], subsample_intrinsics(batch[row], 4))
    np.testing.assert_array_equal(batch, before)
