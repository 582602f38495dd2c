"""Which depth the formats with depth maps hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from da3stream.writers.kept_depth import depth_at_image_size, depth_of

from .plane_scene import HEIGHT, INTRINSICS, STEP, WIDTH, arc_pose, plane_block, plane_depth


def test_full_size_depth_is_taken_where_it_was_kept():
    block = plane_block(0, 3, full=True)
    found = depth_of(block, 1)
    np.testing.assert_array_equal(found.depth, block.full_depth[1])
    np.testing.assert_array_equal(found.intrinsics, INTRINSICS)


def test_otherwise_the_reduced_depth_is():
    block = plane_block(0, 3)
    found = depth_of(block, 2)
    np.testing.assert_array_equal(found.depth, block.depth[2])
    np.testing.assert_array_equal(found.intrinsics, block.depth_intrinsics[2])


def test_reduced_depth_at_image_size_is_that_of_the_image_s_own_pixels():
    """The rows beyond the last sample aside, interpolated inverse-linear depth of a plane is nearly exact."""
    block = plane_block(0, 3)
    found = depth_at_image_size(block, 2)
    exact = plane_depth(arc_pose(2 / 23), INTRINSICS, HEIGHT, WIDTH)
    inner = np.s_[STEP:-STEP, STEP:-STEP]
    np.testing.assert_allclose(found.depth[inner], exact[inner], rtol=2e-3)


def test_what_is_unknown_in_the_reduced_depth_is_unknown_at_full_size():
    block = plane_block(0, 1, full=True)
    confidence = block.confidence.copy()
    confidence[0, 4, 7] = 0  # sky, or a filled hole
    masked = replace(block, confidence=confidence)
    for found in (depth_of(masked, 0), depth_at_image_size(masked, 0)):
        unknown = np.argwhere(found.depth == 0)
        np.testing.assert_array_equal(np.unique(unknown[:, 0]), STEP * 4 + np.arange(STEP))
        np.testing.assert_array_equal(np.unique(unknown[:, 1]), STEP * 7 + np.arange(STEP))
        assert not found.confidence[found.depth == 0].any()


def test_nothing_of_the_block_is_changed():
    block = plane_block(0, 1, full=True)
    for array in (block.depth, block.confidence, block.full_depth, block.full_confidence):
        array.flags.writeable = False
    depth_of(block, 0)
    depth_at_image_size(replace(block, full_depth=None, full_confidence=None), 0)
