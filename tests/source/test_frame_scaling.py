"""Scaling of decoded frames, against the one resize that counts."""

from __future__ import annotations

import av
import numpy as np
import pytest

from da3stream.imaging import resize_for_processing
from da3stream.source.frame_scaling import FrameScaler
from da3stream.source.motion import grey_image
from da3stream.source.orientation import Orientation

from .clips import picture

SIZES = [
    (1920, 1080),
    (1080, 1920),
    (1280, 720),
    (854, 480),
    (1000, 562),
    (3840, 2160),
    (322, 242),
    (512, 384),
]


def scaled(frame: av.VideoFrame, resolution: int) -> np.ndarray:
    return FrameScaler().processed_rgb(frame, Orientation(), resolution)


@pytest.mark.parametrize("resolution", [504, 280])
@pytest.mark.parametrize("size", SIZES)
def test_shrinking_differs_from_the_reference_by_one_level_in_few_values(
    size: tuple[int, int], resolution: int
) -> None:
    frame = av.VideoFrame.from_ndarray(picture(3, *size), "rgb24").reformat(format="yuv420p")
    expected = resize_for_processing(frame.to_ndarray(format="rgb24"), resolution)
    difference = np.abs(scaled(frame, resolution).astype(int) - expected)
    # Growing by a cubic in the second step sharpens, so that one level can become two.
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.02
    assert (difference > 1).mean() < 1e-4


@pytest.mark.parametrize("size", [(504, 280), (320, 240), (98, 56)])
def test_without_shrinking_it_is_the_reference(size: tuple[int, int]) -> None:
    frame = av.VideoFrame.from_ndarray(picture(3, *size), "rgb24").reformat(format="yuv420p")
    expected = resize_for_processing(frame.to_ndarray(format="rgb24"), 504)
    np.testing.assert_array_equal(scaled(frame, 504), expected)


@pytest.mark.parametrize("pixel_format", ["yuv422p", "yuvj420p", "yuv420p10le", "gray", "nv12", "gbrp"])
def test_other_pixel_formats(pixel_format: str) -> None:
    frame = av.VideoFrame.from_ndarray(picture(3, 640, 368), "rgb24").reformat(format=pixel_format)
    expected = resize_for_processing(frame.to_ndarray(format="rgb24"), 504)
    assert np.abs(scaled(frame, 504).astype(int) - expected).max() <= 2


def test_one_scaler_follows_a_change_of_size() -> None:
    scaler = FrameScaler()
    for size in ((640, 360), (800, 600), (640, 360)):
        frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 200, np.uint8), "rgb24")
        assert (scaler.processed_rgb(frame, Orientation(), 280) == 200).all()


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv420p10le", "gray", "nv12", "rgb24"])
def test_the_grey_image_is_that_of_an_rgb_picture(pixel_format: str) -> None:
    frame = av.VideoFrame.from_ndarray(picture(3, 1270, 714), "rgb24").reformat(format=pixel_format)
    grey, expected = FrameScaler().grey(frame), grey_image(frame.to_ndarray(format="rgb24"))
    assert grey.shape == expected.shape == (108, 192)
    assert np.abs(grey.astype(int) - expected).max() <= 3
