"""Turns decoded video frames into images. Runs in the decoder process, in several threads."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from da3stream.errors import InputError
from da3stream.imaging import resize_for_processing
from da3stream.source.orientation import Orientation

JPEG_QUALITY = 95

# The work is spread over threads by frames; threads inside each call would only get in the way.
cv2.setNumThreads(1)
_THREAD = threading.local()


def processed_rgb(frame: Any, orientation: Orientation, resolution: int) -> NDArray[np.uint8]:
    """Upright (H, W, 3) uint8 RGB at processing size of an `av.VideoFrame`.

    The frame is resized first and turned then: that is the same, only with fewer pixels to turn.
    """
    return orientation.upright(resize_for_processing(_packed(frame, "rgb24"), resolution))


def encoded_jpeg(frame: Any, orientation: Orientation) -> bytes:
    """Upright JPEG at the size of the video of an `av.VideoFrame`."""
    upright = orientation.upright(_packed(frame, "bgr24"))
    is_encoded, encoded = cv2.imencode(".jpg", upright, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not is_encoded:
        raise InputError(
            "a frame cannot be encoded as JPEG", got=f"{upright.shape[1]}x{upright.shape[0]} pixels"
        )
    return bytes(encoded)


def _packed(frame: Any, pixel_format: str) -> NDArray[np.uint8]:
    """(H, W, 3) view of the frame in a packed format, in the matrix and range that the stream declares."""
    if not hasattr(_THREAD, "reformatter"):
        _THREAD.reformatter = VideoReformatter()  # keeps a scaling context, which no two threads may share
    converted = _THREAD.reformatter.reformat(frame, format=pixel_format, threads=1)
    plane = converted.planes[0]
    # Rows may be padded, so the strides are given; the array keeps the plane alive.
    return np.ndarray(
        (converted.height, converted.width, 3), np.uint8, plane, strides=(plane.line_size, 3, 1)
    )
