"""trajectory_tum.txt: the trajectory format of the TUM RGB-D benchmark."""

from __future__ import annotations

from da3stream.geometry.rigid3 import quaternion_wxyz
from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.text import number_row, plain_decimal


class TumWriter(Writer):
    """`timestamp tx ty tz qx qy qz qw` a line, camera to world, seconds; exactly 8 columns.

    Times are exact and without exponent, translations exact, quaternions of unit length with qw >= 0. Readers
    expect the times of the frames to increase, as those of a source do.
    Format: https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._stream = self._pending.file("trajectory_tum.txt")

    def add(self, block: FrameBlock) -> None:
        for timestamp_s, pose in zip(block.timestamp_s, block.world_from_cam, strict=True):
            qw, *q_xyz = quaternion_wxyz(pose[:3, :3])
            row = number_row((*pose[:3, 3], *q_xyz, qw))
            self._stream.write(plain_decimal(timestamp_s).encode() + b" " + row)

    def finish(self) -> None:
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()
