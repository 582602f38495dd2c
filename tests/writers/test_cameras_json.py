"""cameras.json."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from da3stream.writers.cameras import CamerasWriter

from .plane_scene import HEIGHT, INTRINSICS, ORIGINAL, WIDTH, blocks_of, plane_block, write


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.fixture
def read(outputs):
    return lambda: json.loads((outputs.root / "cameras.json").read_text(), parse_constant=refuse)


def test_the_head_says_what_the_numbers_mean(make_context, read):
    context = replace(make_context(), timestamps_are_synthetic=True, is_metric=False)
    write(CamerasWriter(context), [])
    content = read()
    assert content.pop("frames") == []
    assert content == {
        "format": "da3stream cameras",
        "version": 1,
        "timestamps": "synthetic",
        "numbered_in": None,
        "is_metric": False,
        "pixel_convention": "the centre of the top-left pixel is (0.5, 0.5)",
        "camera_frame": "OpenCV (x right, y down, z forward)",
        "distortion": None,
    }


def test_real_times_and_metres_are_told(make_context, read):
    write(CamerasWriter(make_context()), [])
    content = read()
    assert (content["timestamps"], content["is_metric"]) == ("container", True)


def test_a_video_whose_frames_are_only_numbered_is_named(make_context, read):
    write(CamerasWriter(replace(make_context(), numbered_in="video:1f")), [])
    assert read()["numbered_in"] == "video:1f"


def test_frames_read_back_exactly(make_context, read):
    blocks = blocks_of(24)
    write(CamerasWriter(make_context()), blocks)
    frames = read()["frames"]
    for column in ("index", "source_index", "timestamp_s"):
        expected = np.concatenate([getattr(block, column) for block in blocks])
        assert np.array_equal([frame[column] for frame in frames], expected)
    assert [frame["name"] for frame in frames] == [name for block in blocks for name in block.names]
    poses = np.concatenate([block.world_from_cam for block in blocks])
    assert np.array_equal([frame["world_from_cam"] for frame in frames], poses)


def test_a_camera_is_told_at_both_resolutions(make_context, read):
    write(CamerasWriter(make_context()), blocks_of(24))
    frame = read()["frames"][7]
    assert (frame["width"], frame["height"]) == ORIGINAL
    small = frame["processing"]
    assert (small["width"], small["height"]) == (WIDTH, HEIGHT)
    assert [small[key] for key in ("fx", "fy", "cx", "cy")] == INTRINSICS[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    # A point on the ray (0.2, -0.1, 1) at both sizes: the same place relative to the image.
    large = frame["intrinsics"]
    for focal, centre, side, slope in (("fx", "cx", "width", 0.2), ("fy", "cy", "height", -0.1)):
        at_small = (small[focal] * slope + small[centre]) / small[side]
        at_large = (large[focal] * slope + large[centre]) / frame[side]
        assert at_large == pytest.approx(at_small, rel=1e-14)


@pytest.mark.parametrize("number", [5e-324, 1e-300, 1e300, 1.7976931348623157e308])
def test_extreme_numbers_stay_json(make_context, read, number):
    block = plane_block(0, 1)
    pose = block.world_from_cam.copy()
    pose[0, :3, 3] = number
    write(
        CamerasWriter(make_context()), [replace(block, world_from_cam=pose, timestamp_s=np.array([number]))]
    )
    frame = read()["frames"][0]
    assert frame["timestamp_s"] == number
    assert np.array_equal(frame["world_from_cam"], pose[0])


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_json_is_refused(make_context, number):
    writer = CamerasWriter(make_context())
    with pytest.raises(ValueError, match="JSON"):
        writer.add(replace(plane_block(0, 1), timestamp_s=np.array([number])))
    writer.abort()


def test_an_intrinsic_that_overflows_at_the_original_resolution_is_refused(make_context):
    block = plane_block(0, 1)
    writer = CamerasWriter(make_context())
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="JSON"):
        writer.add(replace(block, intrinsics=block.intrinsics * 1e307))
    writer.abort()


def test_names_may_hold_any_character(make_context, read):
    name = 'Küche "links"\\1\n.jpg'
    write(CamerasWriter(make_context()), [replace(plane_block(0, 1), names=(name,))])
    assert read()["frames"][0]["name"] == name
