"""Turns decoded video frames into images. Runs in the decoder process, in several threads.

The reference for every pixel is `resize_for_processing` of the full RGB frame. Its averaging of areas takes
as long as decoding (OpenCV: 6 ms of one core for a frame of 1920x1080), so for shrinking FFmpeg's scaler
averages the same areas, in half of the time. It is fed with each colour as a grey image, since it would go
through YUV otherwise; the common pixel formats are converted to such planes at once. Its weights have 14
bits, so in about one of 200 values the rounding differs, and by one level: less than what different releases
of OpenCV differ by. Growing and the second step are left to `imaging`.
"""

from __future__ import annotations

import threading
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from da3stream.errors import InputError
from da3stream.imaging import bounded_size, resize_for_processing, resize_to_patches
from da3stream.source.motion import grey_size
from da3stream.source.orientation import Orientation
from da3stream.source.undistortion import Undistorter

JPEG_QUALITY = 95

# PyAV 17, the last one for Python 3.10, cannot ask for accurate rounding: there OpenCV does all of it.
_CAN_ROUND = hasattr(Interpolation, "ACCURATE_RND")
_AREA = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT if _CAN_ROUND else None

_PLANES_EQUAL_PIXELS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuv444p"})
"""Formats whose conversion to planes gives the very values of the one to pixels; others, nv12 for one,
differ in how they interpolate colour."""
_WHOLE_COLUMNS = 16
"""That conversion works on so many columns at a time and gets an incomplete last group wrong."""

# The work is spread over threads by frames; threads inside each call would only get in the way.
cv2.setNumThreads(1)


class FrameScaler(threading.local):
    """Converts frames; each thread has scaling contexts and buffers of its own."""

    def __init__(self) -> None:
        self._converter = VideoReformatter()
        self._shrinkers = tuple(VideoReformatter() for _ in range(3))
        self._grey_shrinker = VideoReformatter()
        self._channels = tuple(np.empty((0, 0), np.uint8) for _ in range(3))

    def processed_rgb(
        self,
        frame: Any,
        orientation: Orientation,
        resolution: int,
        undistort: Undistorter | None = None,
    ) -> NDArray[np.uint8]:
        """Upright (H, W, 3) uint8 RGB at processing size of an `av.VideoFrame`.

        The frame is resized first and turned then: that is the same, only with fewer pixels to turn. But what
        is to be undistorted is turned and undistorted first, at full size.
        """
        if undistort is not None:
            upright = orientation.upright(self._packed(frame, "rgb24"))
            return resize_for_processing(undistort(upright), resolution)
        width, height = bounded_size(frame.width, frame.height, resolution)
        if _CAN_ROUND and width < frame.width and height < frame.height:
            return orientation.upright(resize_to_patches(self._shrunk(frame, width, height)))
        return orientation.upright(resize_for_processing(self._packed(frame, "rgb24"), resolution))

    def grey(self, frame: Any) -> NDArray[np.uint8]:
        """Grey image (h, w) of an `av.VideoFrame`, as stored (not turned), in the size of `grey_size`."""
        width, height = grey_size(frame.width, frame.height)
        shrunk = self._grey_shrinker.reformat(
            frame, width, height, format="gray", interpolation=_AREA or Interpolation.AREA, threads=1
        )
        return np.ascontiguousarray(_view(shrunk, channels=1)[..., 0])

    def encoded_jpeg(
        self, frame: Any, orientation: Orientation, undistort: Undistorter | None = None
    ) -> bytes:
        """Upright JPEG at the size of the video of an `av.VideoFrame`."""
        upright = orientation.upright(self._packed(frame, "bgr24"))
        upright = upright if undistort is None else undistort(upright)
        is_encoded, encoded = cv2.imencode(".jpg", upright, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not is_encoded:
            raise InputError("a frame cannot be encoded as JPEG", got=f"{frame.width}x{frame.height} pixels")
        return bytes(encoded)

    def _packed(self, frame: Any, pixel_format: str) -> NDArray[np.uint8]:
        """(H, W, 3) view of the frame in a packed format; matrix and range are those that it declares."""
        return _view(self._converter.reformat(frame, format=pixel_format, threads=1), channels=3)

    def _planes(self, frame: Any) -> tuple[NDArray[np.uint8], ...]:
        """Red, green and blue, (H, W) each, valid until the next call."""
        if frame.format.name in _PLANES_EQUAL_PIXELS and frame.width % _WHOLE_COLUMNS == 0:
            planar = self._converter.reformat(frame, format="gbrp", threads=1)
            green, blue, red = (_view(planar, channels=1, plane=number)[..., 0] for number in range(3))
            return red, green, blue
        rgb = self._packed(frame, "rgb24")
        if self._channels[0].shape != rgb.shape[:2]:
            self._channels = tuple(np.empty(rgb.shape[:2], np.uint8) for _ in range(3))
        cv2.split(rgb, self._channels)
        return self._channels

    def _shrunk(self, frame: Any, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3) average over areas."""
        shrunk = [
            shrinker.reformat(
                av.VideoFrame.from_numpy_buffer(channel, "gray"),
                width,
                height,
                interpolation=_AREA,
                threads=1,
            )
            for shrinker, channel in zip(self._shrinkers, self._planes(frame), strict=True)
        ]
        return cv2.merge([_view(frame, channels=1)[..., 0] for frame in shrunk])


def _view(frame: Any, channels: int, plane: int = 0) -> NDArray[np.uint8]:
    """(H, W, channels) view of a frame's plane; its rows may be padded. The array keeps the memory alive."""
    memory = frame.planes[plane]
    return np.ndarray(
        (frame.height, frame.width, channels), np.uint8, memory, strides=(memory.line_size, channels, 1)
    )
