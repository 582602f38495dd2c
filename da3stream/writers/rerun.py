"""rerun/capture.rrd: the capture as a recording for rerun's viewer."""

from __future__ import annotations

import hashlib

import numpy as np

from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.rerun_recording import RerunRecording, load_rerun
from da3stream.writers.sensor_frames import cloud_sampler, conventions, loop_segments, sensor_frames


class RerunWriter(Writer):
    """Open it with `rerun RUN/rerun/capture.rrd` (rerun.io). Timelines: `frame` (index), `time` (seconds).

    - world: axes right, down, forward.
    - world/camera: pose; world/camera/image and world/camera/depth: each with the pinhole camera of its size.
    - world/points/SUBMAP: the points of a block of frames, which appear with its first frame.
    - world/trajectory, world/loops: lines, always there.
    - a blueprint: the map beside image and depth.

    Pinholes keep our convention, which is that of rerun's images: the centre of the top-left pixel is
    (0.5, 0.5). Poses are float32, as rerun has it. The recording's property `da3stream` says the unit and
    whether timestamps are synthetic.

    The recording id comes from the trajectory, so that two runs stay apart in one viewer. Written twice, a
    recording has the same content; its bytes differ by the random ids that rerun gives its chunks and rows.
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        load_rerun()
        self._sampler = cloud_sampler(context)
        self._pending = PendingOutputs(context.outputs)
        path = self._pending.folder("rerun") / "capture.rrd"
        try:
            self._recording = RerunRecording(path, _recording_id(context))
        except BaseException:
            self._pending.abort()
            raise
        try:
            self._recording.log_notes(conventions(context))
            self._recording.log_map(context.positions_in_world, loop_segments(context))
        except BaseException:
            self.abort()
            raise

    @classmethod
    def check_installed(cls) -> None:
        load_rerun()

    def add(self, block: FrameBlock) -> None:
        if not len(block):
            return
        self._recording.log_frames(list(sensor_frames(block)))
        index, time_s = int(block.index[0]), float(block.timestamp_s[0])
        self._recording.log_points(block.submap, self._sampler.sample(block), index, time_s)

    def finish(self) -> None:
        self._recording.complete()
        self._pending.commit()

    def abort(self) -> None:
        self._recording.abandon()
        self._pending.abort()


def _recording_id(context: WriterContext) -> str:
    positions = np.ascontiguousarray(context.positions_in_world, dtype="<f8")
    return f"da3stream-{hashlib.sha256(positions.tobytes()).hexdigest()[:32]}"
