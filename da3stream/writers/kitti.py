"""trajectory_kitti.txt: the trajectory format of the KITTI odometry benchmark."""

from __future__ import annotations

from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.text import number_row


class KittiWriter(Writer):
    """The 12 numbers of the upper three rows of world_from_cam a line, row by row, exact in float64; no time.

    Format: readme of https://www.cvlibs.net/datasets/kitti/eval_odometry.php
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._stream = self._pending.file("trajectory_kitti.txt")

    def add(self, block: FrameBlock) -> None:
        for pose in block.world_from_cam:
            self._stream.write(number_row(pose[:3].ravel()))

    def finish(self) -> None:
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()
