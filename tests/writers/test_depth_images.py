"""depth_png/ and depth_exr/, as OpenCV and OpenEXR read them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import cv2
import numpy as np
import OpenEXR
import pytest

from da3stream.errors import MissingDependencyError, StoreError
from da3stream.geometry.camera import pixel_rays
from da3stream.writers.depth_exr import DepthExrWriter
from da3stream.writers.depth_png import DepthPngWriter

from .plane_scene import PLANE_NORMAL, PLANE_OFFSET, arc_pose, blocks_of, plane_block, write


def read_png(path):
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels.dtype == np.uint16
    return pixels


def read_exr(path):
    with OpenEXR.File(str(path)) as image:
        (channel,) = image.channels().items()
        assert channel[0] == "Z"
        return channel[1].pixels.copy()


def description(outputs, name):
    return json.loads((outputs.root / name / "depth.json").read_text())


def assert_on_plane(depth, frame, position, tolerance):
    """Un-projected by what depth.json says of a frame, all pixels are points of the plane."""
    assert depth.shape == (frame["height"], frame["width"])
    k = np.array([[frame["fx"], 0, frame["cx"]], [0, frame["fy"], frame["cy"]], [0, 0, 1]])
    pose = arc_pose(position)
    in_world = pixel_rays(k, *depth.shape) * depth[..., None] @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(in_world @ PLANE_NORMAL, PLANE_OFFSET, atol=tolerance)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("is_metric", [True, False])
def test_png_with_its_scale_gives_the_plane(make_context, outputs, full, is_metric):
    context = replace(make_context(frames=5), is_metric=is_metric)
    write(DepthPngWriter(context), blocks_of(5, 2, full=full))
    told = description(outputs, "depth_png")
    assert told["is_metric"] is is_metric
    assert (told["world_units_per_step"] == 0.001) is is_metric
    assert told["pixels_too_far"] == 0
    assert [frame["index"] for frame in told["frames"]] == list(range(5))
    for number, frame in enumerate(told["frames"]):
        depth = read_png(outputs.root / "depth_png" / frame["file"]) * told["world_units_per_step"]
        assert_on_plane(depth, frame, number / 4, 1.2 * told["world_units_per_step"])


@pytest.mark.parametrize("full", [True, False])
def test_exr_is_exact(make_context, outputs, full):
    write(DepthExrWriter(make_context(frames=5)), blocks_of(5, 2, full=full))
    for number, frame in enumerate(description(outputs, "depth_exr")["frames"]):
        depth = read_exr(outputs.root / "depth_exr" / frame["file"])
        assert depth.dtype == np.float32
        assert_on_plane(depth, frame, number / 4, 1e-5)
        block = plane_block(number, number + 1, frames=5, full=True)
        np.testing.assert_array_equal(depth, block.full_depth[0] if full else block.depth[0])


def with_depth(*values):
    """A block whose first frame has these depths in its first row."""
    block = plane_block(0, 2, frames=2)
    depth = block.depth.copy()
    depth[0, 0, : len(values)] = values
    return replace(block, depth=depth)


def test_what_16_bits_do_not_hold_is_unknown_counted_and_said(make_context, outputs, caplog):
    block = with_depth(65.535, 65.536, 1e6, 0.0001, np.nan, 0)
    write(DepthPngWriter(make_context(frames=2)), [block])
    pixels = read_png(outputs.root / "depth_png" / "000000.png")
    assert pixels[0, :6].tolist() == [65535, 0, 0, 1, 0, 0]
    assert description(outputs, "depth_png")["pixels_too_far"] == 2
    assert "2 pixels are too far" in caplog.text


def test_exr_holds_any_distance(make_context, outputs):
    write(DepthExrWriter(make_context(frames=2)), [with_depth(1e6, np.inf, -1)])
    assert read_exr(outputs.root / "depth_exr" / "000000.exr")[0, :3].tolist() == [1e6, 0, 0]


def test_the_step_follows_the_scale_of_the_run(make_context, outputs):
    steps = []
    for scale in (1, 1000):
        block = plane_block(0, 2, frames=2)
        context = replace(make_context(frames=2), is_metric=False)
        write(DepthPngWriter(context), [replace(block, depth=block.depth * np.float32(scale))])
        steps.append(description(outputs, "depth_png")["world_units_per_step"])
        first = read_png(outputs.root / "depth_png" / "000000.png")
        assert abs(np.median(first) - 2048) <= 1
    assert steps[1] == pytest.approx(1000 * steps[0])


def test_an_exr_that_cannot_be_written_is_one_line(make_context, outputs):
    writer = DepthExrWriter(make_context(frames=2))
    (outputs.pending()[0] / "000000.exr").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"depth_exr/000000\.exr could not be written.*--resume"):
        write(writer, [plane_block(0, 2, frames=2)])
    writer.abort()
    assert outputs.pending() == []


def test_without_openexr_the_error_says_what_to_install(make_context, outputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'da3stream\[exr\]'"):
        DepthExrWriter(make_context())
    assert outputs.pending() == []
