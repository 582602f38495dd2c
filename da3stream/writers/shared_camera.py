"""What the formats that describe one camera have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.camera import Camera, rescale_intrinsics
from da3stream.geometry.lens import LensCamera
from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.text import plain_decimal

OPENCV_SHIFT_PX = 0.5
"""Here the centre of the top-left pixel is (0.5, 0.5); OpenCV and what is built on it have (0, 0)."""


class SharedCameraWriter(Writer):
    """Writes one text file about the camera that all frames share, as colmap/ has it.

    That is the median over all frames of focal lengths and principal point, in pixels of the user's images.
    Of no frames, nothing is written. Some ten bytes a frame are held until `finish`.
    """

    file: ClassVar[str]
    """Name of the file."""

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._stream = self._pending.file(self.file)
        self._intrinsics: list[NDArray[np.float64]] = []
        self._times_s: list[NDArray[np.float64]] = []
        self._size: tuple[int, int] | None = None

    def add(self, block: FrameBlock) -> None:
        if len(block) == 0:
            return
        height, width = block.images.shape[1:3]
        # Should later images be of another size, theirs is rescaled: it is one camera.
        self._size = self._size or (int(block.original_size[0, 0]), int(block.original_size[0, 1]))
        scaled = rescale_intrinsics(block.intrinsics, (width, height), self._size)
        self._intrinsics.append(scaled[:, [0, 1, 0, 1], [0, 1, 2, 2]])
        self._times_s.append(block.timestamp_s)

    def finish(self) -> None:
        if self._size is None:
            self._pending.abort()
            return
        fx, fy, cx, cy = np.median(np.concatenate(self._intrinsics), axis=0).tolist()
        width, height = self._size
        camera = Camera(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)
        self._stream.write(self.text(camera).encode())
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()

    @abstractmethod
    def text(self, camera: Camera) -> str:
        """Content of the file for a camera in our pixels."""

    def as_recorded(self, camera: Camera) -> LensCamera:
        """The camera of the input itself, with its distortion if the run was told it."""
        if self.context.lens is not None:
            return self.context.lens
        return LensCamera(fx=camera.fx, fy=camera.fy, cx=camera.cx, cy=camera.cy, distortion=None)

    def frames_per_second(self) -> int:
        """The rate of the frames by their median interval, at least 1."""
        intervals_s = np.diff(np.concatenate(self._times_s))
        return max(1, round(1 / float(np.median(intervals_s)))) if len(intervals_s) else 1


def opencv_numbers(camera: Camera | LensCamera) -> list[str]:
    """fx, fy, cx, cy in OpenCV's pixels, as decimals that read back as the same float64."""
    shifted = (camera.fx, camera.fy, camera.cx - OPENCV_SHIFT_PX, camera.cy - OPENCV_SHIFT_PX)
    return [plain_decimal(value) for value in shifted]
