"""Flying pixels go; steps, thin things and steep planes stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from da3stream.geometry.camera import rescale_intrinsics
from da3stream.scene import FrameBlock
from da3stream.writers.flying_pixels import without_flying_pixels

from .plane_scene import plane_block, without_frames

ANGLE = 4.0


def block_with(depth: np.ndarray) -> FrameBlock:
    """A frame with this (h, w) depth map, confident everywhere; its focal length is that of 124 columns."""
    block = plane_block(0, 1)
    h, w = depth.shape
    camera = np.array([[124.0, 0, w / 2], [0, 124.0, h / 2], [0, 0, 1]])
    depth = depth.astype(np.float32)[None]
    return replace(block, depth=depth, confidence=np.ones_like(depth), depth_intrinsics=camera[None])


def flying(depth: np.ndarray, angle: float = ANGLE) -> np.ndarray:
    """(h, w) the pixels that go."""
    return without_flying_pixels(block_with(depth), angle).confidence[0] == 0


def in_both_directions(row: list[float]) -> list[np.ndarray]:
    rows = np.tile(np.array(row), (7, 1))
    return [rows, rows.T]


@pytest.mark.parametrize("between", [[3.0], [2.6, 3.4], [2.5, 3.0, 3.5]])
@pytest.mark.parametrize("turned", [False, True])
def test_pixels_between_an_object_and_what_lies_behind_it_go(between: list[float], turned: bool) -> None:
    row = [2.0] * 6 + between + [4.0] * 6
    row = row[::-1] if turned else row
    expected = [value in between for value in row]
    for depth in in_both_directions(row):
        found = flying(depth)
        # In the middle of three, depth goes on as it would on a plane.
        found, wanted = found[3] if depth.shape[0] == 7 else found[:, 3], np.array(expected)
        assert not (found & ~wanted).any()
        assert found.sum() == min(len(between), 2)


@pytest.mark.parametrize(
    "row", [[2.0] * 6 + [4.0] * 6, [4.0] * 6 + [2.0] + [4.0] * 6, [4.0] * 6 + [2.0] * 2 + [4.0] * 6]
)
def test_steps_and_thin_objects_stay(row: list[float]) -> None:
    for depth in in_both_directions(row):
        assert not flying(depth).any()


def test_a_pole_that_is_blurred_loses_the_blur_alone() -> None:
    found = flying(in_both_directions([6.0] * 5 + [4.0, 2.0, 4.0] + [6.0] * 5)[0])
    assert np.flatnonzero(found[3]).tolist() == [5, 7]


def test_a_road_stays_up_to_the_horizon() -> None:
    """Its depth steps by more than any threshold there, but goes on."""
    v = np.arange(1, 60) + 0.5
    road = np.tile((1.65 * 124 / v[::-1])[::-1, None], (1, 40))
    assert not flying(road).any()
    assert not flying(road[::-1]).any()


@pytest.mark.parametrize("angle", [1.0, 4.0, 30.0])
def test_planes_stay(angle: float) -> None:
    block = plane_block(0, 5)
    assert np.array_equal(without_flying_pixels(block, angle).confidence, block.confidence)


def test_maps_of_any_resolution_are_judged_alike() -> None:
    """One pixel of blur at a step that counts or not, whatever the number of pixels."""
    for zoom in (1, 3):
        for nearest, goes in ((0.80, True), (0.95, False)):  # relative step over pixel angle decides
            far = 1 + (1 / nearest - 1) / zoom
            depth = np.tile(np.array([1.0] * 6 + [far] + [far**2] * 6) * 3, (7, 1))
            block = block_with(depth)
            camera = rescale_intrinsics(block.depth_intrinsics[0], (1, 1), (zoom, zoom))
            cleaned = without_flying_pixels(replace(block, depth_intrinsics=camera[None]), ANGLE)
            assert (cleaned.confidence[0, 3, 6] == 0) == goes


def test_steps_to_pixels_without_depth_do_not_count() -> None:
    depth = np.tile(np.array([2.0] * 6 + [3.0] + [4.0] * 6), (7, 1))
    block = block_with(depth)
    confidence = block.confidence.copy()
    confidence[0, :, 5] = 0
    cleaned = without_flying_pixels(replace(block, confidence=confidence), ANGLE)
    assert np.array_equal(cleaned.confidence, confidence)
    assert not flying(np.where(depth == 2, np.nan, depth)).any()


def test_zero_keeps_all_and_blocks_are_left_alone() -> None:
    block = block_with(np.tile(np.array([2.0] * 6 + [3.0] + [4.0] * 6), (7, 1)))
    block.confidence.flags.writeable = block.depth.flags.writeable = False
    assert without_flying_pixels(block, 0.0) is block
    assert not np.array_equal(without_flying_pixels(block, ANGLE).confidence, block.confidence)
    assert len(without_flying_pixels(without_frames(plane_block(0, 1)), ANGLE)) == 0
