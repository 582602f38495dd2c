"""Encodes rendered frames as a video file."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_QUALITY = "17"
"""x264's constant rate factor: visually lossless."""
_INSTRUCTIONS = "asm=SSE4.2"
"""What x264 may use of x86 processors. With AVX-512 and its macroblock tree it gives other bytes in some of a
thousand tries (PyAV 18.1); with these, 1,500 of 1,500 were the same.
"""
_OPTIONS = {"crf": _QUALITY, "threads": "1", "x264-params": _INSTRUCTIONS}


def encode_video(path: str | Path, frames: Iterable[NDArray[np.uint8]], fps: int) -> None:
    """Write (H, W, 3) uint8 RGB frames of even width and height as H.264; frame i is presented at i / fps
    seconds.

    One encoder thread, and instructions that every x86 processor has: equal frames give equal files.
    """
    with av.open(str(path), "w") as container:
        stream = None
        for number, image in enumerate(frames):
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options=_OPTIONS)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.time_base = Fraction(1, fps)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
