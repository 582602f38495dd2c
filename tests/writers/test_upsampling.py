from __future__ import annotations

import numpy as np
import pytest

from da3stream.geometry.camera import rescale_intrinsics
from da3stream.writers.upsampling import resize_depth

from .plane_scene import INTRINSICS, PLANE_NORMAL, plane_depth


def test_the_same_size_changes_nothing():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 9, (12, 17)).astype(np.float32)
    confidence = rng.uniform(0.1, 1, (12, 17)).astype(np.float32)
    same = resize_depth(depth, confidence, 12, 17)
    assert np.array_equal(same.depth, depth)
    assert np.array_equal(same.confidence, confidence)


@pytest.mark.parametrize("size", [(28, 42), (14, 21), (19, 28), (112, 168)])
def test_the_camera_stays_exact(size):
    """A plane's inverse depth is linear in the image: resizing it must give that of the rescaled camera."""
    h, w = size
    small = rescale_intrinsics(INTRINSICS, (84, 56), (w, h))
    inverse = 1 / plane_depth(np.eye(4), small, h, w)
    resized = resize_depth(inverse, np.ones((h, w)), 56, 84).depth
    expected = 1 / plane_depth(np.eye(4), INTRINSICS, 56, 84)
    inner = (slice(4, -4), slice(4, -4))  # at the border there is nothing to interpolate towards
    assert np.abs(PLANE_NORMAL[:2]).min() > 0.05  # the plane is tilted, so that a shift would show
    assert np.allclose(resized[inner], expected[inner], rtol=2e-6, atol=0)


def test_holes_do_not_bleed():
    depth = np.full((10, 10), 5.0, dtype=np.float32)
    confidence = np.ones((10, 10), dtype=np.float32)
    confidence[3:6, 4:7] = 0
    depth[3:6, 4:7] = [[np.nan, np.inf, 0.0]] * 3
    large = resize_depth(depth, confidence, 30, 30)
    hole = np.zeros((30, 30), dtype=bool)
    hole[9:18, 12:21] = True
    assert np.array_equal(large.confidence == 0, hole)
    assert np.array_equal(large.depth, np.where(hole, 0, 5).astype(np.float32))


def test_depth_without_a_value_is_never_used():
    depth = np.array([[2.0, np.nan], [0.0, -1.0]], dtype=np.float32)
    resized = resize_depth(depth, np.ones((2, 2), dtype=np.float32), 2, 2)
    assert np.array_equal(resized.confidence, [[1, 0], [0, 0]])
    assert np.array_equal(resized.depth, [[2, 0], [0, 0]])


def test_arguments_are_left_alone():
    depth, confidence = np.ones((4, 4), dtype=np.float32), np.zeros((4, 4), dtype=np.float32)
    depth.flags.writeable = confidence.flags.writeable = False
    resize_depth(depth, confidence, 8, 8)
