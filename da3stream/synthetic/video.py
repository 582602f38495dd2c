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


def encode_video(path: str | Path, frames: Iterable[NDArray[np.uint8]], fps: int) -> None:
    """Write (H, W, 3) uint8 RGB frames of even width and height as H.264; frame i is presented at i / fps
    seconds.

    One encoder thread: equal frames give equal files.
    """
    with av.open(str(path), "w") as container:
        stream = None
        for number, image in enumerate(frames):
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options={"crf": _QUALITY, "threads": "1"})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.time_base = Fraction(1, fps)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
