"""Points of frames: where they lie, what colour they have, which of them are confident enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from da3stream.geometry.camera import rescale_intrinsics, subsample_intrinsics
from da3stream.writers.cloud import PointCloud, confident_pixels, frame_cloud

from .plane_scene import (
    HEIGHT,
    INTRINSICS,
    PLANE_NORMAL,
    PLANE_OFFSET,
    STEP,
    WIDTH,
    blocks_of,
    plane_block,
    plane_depth,
    without_frames,
)


def all_points(block, row):
    return frame_cloud(block, row, np.arange(block.depth[row].size))


def test_all_points_lie_on_the_plane():
    for block in blocks_of(24):
        for row in range(len(block)):
            points = all_points(block, row).points_in_world.astype(np.float64)
            assert len(points) == block.depth[row].size
            assert np.abs(points @ PLANE_NORMAL - PLANE_OFFSET).max() < 4e-6


def test_colours_are_those_of_the_pixel_of_the_sample():
    block = plane_block(3, 5)
    colors = all_points(block, 1).colors.reshape(*block.depth.shape[1:], 3)
    assert np.array_equal(colors, block.images[1][STEP // 2 :: STEP, STEP // 2 :: STEP])


@pytest.mark.parametrize("step", [2, 4, 5])
def test_colours_fit_maps_that_were_subsampled_otherwise(step):
    block = plane_block(0, 1)
    small = subsample_intrinsics(block.intrinsics, step)
    depth = block.images[:, step // 2 :: step, step // 2 :: step, 0].astype(np.float32) + 1
    block = replace(block, depth=depth, confidence=np.ones_like(depth), depth_intrinsics=small)
    colors = all_points(block, 0).colors.reshape(*depth.shape[1:], 3)
    assert np.array_equal(colors, block.images[0][step // 2 :: step, step // 2 :: step])


@pytest.mark.parametrize("size", [(28, 40), (19, 27), (112, 170)])
def test_colours_fit_maps_that_were_resized(size):
    """Every sample gets the image pixel in which its centre lies, whatever the two sizes."""
    h, w = size
    block = plane_block(0, 1)
    depth = np.ones((1, h, w), dtype=np.float32)
    resized = rescale_intrinsics(block.intrinsics, (WIDTH, HEIGHT), (w, h))
    block = replace(block, depth=depth, confidence=depth, depth_intrinsics=resized)
    colors = all_points(block, 0).colors.reshape(h, w, 3).astype(np.float64)
    columns, rows = (np.arange(w) + 0.5) * WIDTH / w, (np.arange(h) + 0.5) * HEIGHT / h
    # Within half a pixel of the pixel's centre; a hair more where a sample lies on the border of two pixels.
    assert np.abs(colors[..., 0] + 0.5 - columns).max() <= 0.5 + 1e-9
    assert np.abs(colors[..., 1] + 0.5 - rows[:, None]).max() <= 0.5 + 1e-9


def test_a_depth_map_with_a_camera_of_its_own_gets_the_colours_along_its_rays():
    """The principal points may differ by more than a resize explains: a crop."""
    block = plane_block(0, 1)
    cropped = block.intrinsics - np.array([[0, 0, 10.0], [0, 0, 4.0], [0, 0, 0]])
    depth = plane_depth(np.eye(4), cropped[0], 30, 50)[None].astype(np.float32)
    block = replace(block, depth=depth, confidence=np.ones_like(depth), depth_intrinsics=cropped)
    colors = all_points(block, 0).colors.reshape(30, 50, 3)
    assert np.array_equal(colors, block.images[0][4:34, 10:60])


def test_points_that_float32_cannot_hold_are_left_out():
    block = plane_block(0, 1)
    depth = block.depth.copy()
    depth[0, 3, -1] = 3e38  # at the right border, where x is about half of it
    pose = block.world_from_cam.copy()
    pose[0, 0, 3] = 3e38
    block = replace(block, depth=depth, world_from_cam=pose)
    points = all_points(block, 0).points_in_world
    assert np.isfinite(points).all()
    assert len(points) == depth.size - 1


@given(percentile=st.floats(0, 99.9), confident=st.integers(0, 19 * 28 * 2), seed=st.integers(0, 2**32 - 1))
def test_the_least_confident_share_of_a_block_is_left_out(percentile, confident, seed):
    block = plane_block(0, 2)
    confidence = block.confidence.ravel().copy()
    unused = np.random.default_rng(seed).permutation(confidence.size)[confident:]
    confidence[unused] = 0
    block = replace(block, confidence=confidence.reshape(block.confidence.shape))
    kept = np.concatenate(
        [block.confidence[row].ravel()[p] for row, p in enumerate(confident_pixels(block, percentile))]
    )
    assert len(kept) == confident - int(confident * percentile / 100)
    assert sorted(kept) == sorted(confidence[confidence > 0])[confident - len(kept) :]


def test_equally_confident_maps_lose_nothing():
    block = plane_block(0, 2)
    block = replace(block, confidence=np.ones_like(block.confidence))
    assert [len(pixels) for pixels in confident_pixels(block, 40.0)] == [block.depth[0].size] * 2


@pytest.mark.parametrize("depth", [np.nan, np.inf, 0.0, -1.0])
def test_a_pixel_without_a_depth_is_never_used(depth):
    block = plane_block(0, 1)
    changed = block.depth.copy()
    changed[0, 2, 5] = depth
    pixels = confident_pixels(replace(block, depth=changed), 0.0)[0]
    assert len(pixels) == changed.size - 1
    assert 2 * 28 + 5 not in pixels


@pytest.mark.parametrize("confidence", [0.0, -1.0, np.nan])
def test_a_pixel_without_confidence_is_never_used(confidence):
    block = plane_block(0, 1)
    changed = block.confidence.copy()
    changed[0, 2, 5] = confidence
    pixels = confident_pixels(replace(block, confidence=changed), 0.0)[0]
    assert len(pixels) == changed.size - 1
    assert 2 * 28 + 5 not in pixels


def test_no_frames_give_no_pixels():
    assert confident_pixels(without_frames(plane_block(0, 1)), 40.0) == []


def test_concatenation_is_a_copy():
    cloud = all_points(plane_block(0, 1), 0)
    copy = PointCloud.concatenate([cloud])
    assert len(copy) == len(cloud)
    assert not np.shares_memory(copy.points_in_world, cloud.points_in_world)
    assert not np.shares_memory(copy.colors, cloud.colors)
    assert not np.shares_memory(copy.confidence, cloud.confidence)


def test_blocks_are_left_alone():
    block = plane_block(0, 2)
    for name in ("images", "depth", "confidence", "world_from_cam", "intrinsics", "depth_intrinsics"):
        getattr(block, name).flags.writeable = False
    frame_cloud(block, 1, confident_pixels(block, 40.0)[1])
    assert np.array_equal(block.intrinsics[0], INTRINSICS)
