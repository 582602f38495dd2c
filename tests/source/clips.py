"""Small videos, made by PyAV: a few milliseconds each. Starting the decoder process takes half a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from da3stream.imaging import resize_for_processing

WIDTH, HEIGHT, FPS = 160, 96, 30
TIME_BASE = Fraction(1, 1000)

VideoMaker = Callable[..., Path]


def picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A textured RGB image that moves with the index; no two quarters look alike."""
    rng = np.random.default_rng(7)
    texture = rng.integers(0, 256, (height // 8, width // 8 + 8, 3), np.uint8)
    enlarged = cv2.resize(texture, (width + 64, height), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(enlarged[:, index % 64 : index % 64 + width])


def encode_video(
    path: Path,
    *,
    times_ms: Iterable[int] | None = None,
    frames: int = 30,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rotation_deg: int | None = None,
    pixel_format: str = "yuv420p",
    gop: int = 10,
    b_frames: int = 2,
    pictures: Sequence[int] | None = None,
    **container_options: str,
) -> Path:
    """Write an H.264 file of `picture(0), picture(1), ...`; the container follows from the suffix.

    `pictures` are the indices to write instead.
    """
    shown = range(frames) if pictures is None else pictures
    moments_ms = [round(1000 * index / FPS) for index in range(len(shown))]
    if times_ms is not None:
        moments_ms = list(times_ms)
        shown = range(len(moments_ms))
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.codec_context.time_base = TIME_BASE
        stream.options = {"preset": "ultrafast", "g": str(gop), "bf": str(b_frames), "sc_threshold": "0"}
        if rotation_deg is not None:
            stream.set_display_rotation(rotation_deg)
        for index, moment_ms in zip(shown, moments_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), "rgb24")
            frame.pts, frame.time_base = moment_ms, TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded_rgb(path: Path) -> list[np.ndarray]:
    """All frames as stored, (H, W, 3) RGB, decoded here."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def decoded_times_s(path: Path) -> list[float]:
    """Presentation times of all frames."""
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def assert_resized(image: np.ndarray, rgb: np.ndarray, resolution: int) -> None:
    """`image` is `rgb` at processing size, up to the rounding that `frame_scaling` allows itself.

    That is one level; where the second step grows it sharpens, and makes two of it.
    """
    difference = np.abs(image.astype(int) - resize_for_processing(np.ascontiguousarray(rgb), resolution))
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.03
