"""camera_poses.txt, camera_poses.ply and intrinsic.txt: the names and formats of DA3-Streaming."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.ply import PointPly
from da3stream.writers.text import number_row

# Viridis (S. van der Walt and N. Smith, released under CC0) at ten equal steps: lightness grows evenly, so
# that the direction of time is seen in print and by the colour-blind too.
_VIRIDIS = np.array(
    [
        (68, 1, 84), (72, 40, 120), (62, 73, 137), (49, 104, 142), (38, 130, 142),
        (31, 158, 137), (53, 183, 121), (110, 206, 88), (181, 222, 43), (253, 231, 37),
    ],
    dtype=np.float64,
)  # fmt: skip


class PosesWriter(Writer):
    """One line, or one vertex, a frame.

    - camera_poses.txt: the 16 numbers of world_from_cam, row by row, exact in float64.
    - camera_poses.ply: the camera centres (ASCII), coloured along time from dark violet to yellow.
    - intrinsic.txt: `fx fy cx cy` in pixels of the processing-resolution images. The centre of the top-left
      pixel is (0.5, 0.5), so cx = width / 2 is the exact middle; subtract 0.5 from cx and cy for tools that
      put it at (0, 0).
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._poses = self._pending.file("camera_poses.txt")
        self._centres = PointPly(self._pending.file("camera_poses.ply"), "ascii")
        self._intrinsics = self._pending.file("intrinsic.txt")

    def add(self, block: FrameBlock) -> None:
        for pose, matrix in zip(block.world_from_cam, block.intrinsics, strict=True):
            self._poses.write(number_row(pose.ravel()))
            self._intrinsics.write(number_row((matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])))
        self._centres.append(
            block.world_from_cam[:, :3, 3], time_colors(block.index / max(self.context.frames - 1, 1))
        )

    def finish(self) -> None:
        self._centres.complete()
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()


def time_colors(progress: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(K, 3) RGB of (K,) progress from 0 to 1 along a perceptually uniform map; beyond, those of the ends."""
    knots = np.linspace(0.0, 1.0, len(_VIRIDIS))
    channels = [np.interp(progress, knots, channel) for channel in _VIRIDIS.T]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
