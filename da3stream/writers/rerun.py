"""rerun/capture.rrd: the capture as a recording for rerun's viewer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import MissingDependencyError
from da3stream.geometry.camera import Camera
from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.cloud import PointCloud
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.sensor_frames import (
    SensorFrame,
    cloud_sampler,
    conventions,
    loop_segments,
    sensor_frames,
)

_PATH_COLOR, _LOOP_COLOR = (255, 150, 25), (25, 200, 75)


class RerunWriter(Writer):
    """Open it with `rerun RUN/rerun/capture.rrd` (rerun.io). Timelines: `frame` (index), `time` (seconds).

    - world: axes right, down, forward.
    - world/camera: pose; world/camera/image and world/camera/depth: each with the pinhole camera of its size.
    - world/points/SUBMAP: the points of a block of frames, which appear with its first frame.
    - world/trajectory, world/loops: lines, always there.

    Pinholes keep our convention, which is that of rerun's images: the centre of the top-left pixel is
    (0.5, 0.5). Poses are float32, as rerun has it. The recording's property `da3stream` says the unit and
    whether timestamps are synthetic.

    The recording id comes from the trajectory, so that two runs stay apart in one viewer. Written twice, a
    recording has the same content; its bytes differ by the random ids that rerun gives its chunks and rows.
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._rerun = _library()
        self._sampler = cloud_sampler(context)
        self._pending = PendingOutputs(context.outputs)
        folder = self._pending.folder("rerun")
        self._file = _RecordingFile(folder / "capture.rrd", _recording_id(context), self._rerun.chunk)
        self._file.append(self._lasting_chunks())

    @classmethod
    def check_installed(cls) -> None:
        _library()

    def add(self, block: FrameBlock) -> None:
        if not len(block):
            return
        frames = list(sensor_frames(block))
        cloud = self._sampler.sample(block)
        image, depth = "world/camera/image", "world/camera/depth"
        chunk = self._chunk
        self._file.append(
            [
                chunk("world/camera", frames, self._poses(frames)),
                chunk(image, frames, self._pinholes([frame.camera for frame in frames])),
                chunk(image, frames, self._images(frames)),
                chunk(depth, frames, self._pinholes([frame.depth_camera for frame in frames])),
                chunk(depth, frames, self._depth(frames)),
                chunk(f"world/points/{block.submap:06d}", frames[:1], self._points(cloud)),
            ]
        )

    def finish(self) -> None:
        self._file.complete()
        self._pending.commit()

    def abort(self) -> None:
        self._file.abandon()
        self._pending.abort()

    def _chunk(self, entity: str, frames: Sequence[SensorFrame], columns: Any) -> Any:
        """A row for each frame; without frames, one row that holds at all times."""
        return self._rerun.chunk.Chunk.from_columns(entity, self._times(frames) if frames else [], columns)

    def _lasting_chunks(self) -> list[Any]:
        rerun, context = self._rerun, self.context
        known = rerun.AnyValues(**conventions(context))
        axes = rerun.ViewCoordinates.columns(xyz=[rerun.components.ViewCoordinates.RDF])
        path, loops = [context.positions_in_world], list(loop_segments(context))
        return [
            rerun.chunk.Chunk.from_property("da3stream", known),
            self._chunk("world", [], axes),
            self._chunk("world/trajectory", [], self._lines(path, _PATH_COLOR)),
            self._chunk("world/loops", [], self._lines(loops, _LOOP_COLOR)),
        ]

    def _lines(self, strips: list[NDArray[np.float64]], color: tuple[int, int, int]) -> Any:
        columns = self._rerun.LineStrips3D.columns(strips=strips, colors=[color] * len(strips))
        return columns.partition([len(strips)])

    def _times(self, frames: Sequence[SensorFrame]) -> list[Any]:
        column = self._rerun.TimeColumn
        return [
            column("frame", sequence=[frame.index for frame in frames]),
            column("time", duration=[frame.timestamp_s for frame in frames]),
        ]

    def _poses(self, frames: Sequence[SensorFrame]) -> Any:
        return self._rerun.Transform3D.columns(
            translation=[frame.position for frame in frames],
            quaternion=[frame.rotation_xyzw for frame in frames],
        )

    def _pinholes(self, cameras: Sequence[Camera]) -> Any:
        return self._rerun.Pinhole.columns(
            image_from_camera=[camera.matrix() for camera in cameras],
            resolution=[(camera.width, camera.height) for camera in cameras],
            camera_xyz=[self._rerun.components.ViewCoordinates.RDF] * len(cameras),
        )

    def _images(self, frames: Sequence[SensorFrame]) -> Any:
        return self._rerun.EncodedImage.columns(
            blob=[frame.jpeg for frame in frames], media_type=["image/jpeg"] * len(frames)
        )

    def _depth(self, frames: Sequence[SensorFrame]) -> Any:
        rerun = self._rerun
        height, width = frames[0].depth.shape
        size = rerun.components.ImageFormat(
            width=width, height=height, channel_datatype=rerun.encodings.ChannelDatatype.F32
        )
        return rerun.DepthImage.columns(
            buffer=[frame.depth.tobytes() for frame in frames],
            format=[size] * len(frames),
            meter=[1.0] * len(frames),
            depth_range=[_depth_range(frame.depth) for frame in frames],
        )

    def _points(self, cloud: PointCloud) -> Any:
        columns = self._rerun.Points3D.columns(positions=cloud.points_in_world, colors=cloud.colors)
        return columns.partition([len(cloud)])


class _RecordingFile:
    """A recording that grows chunk by chunk.

    rerun pulls the chunks that it writes, hence a thread. (Its file sink, which is pushed to, never returns
    once the disk is full.) At most two lists of chunks are in memory.
    """

    def __init__(self, path: Path, recording_id: str, chunk: ModuleType) -> None:
        """Begin; `chunk` is the module rerun.chunk."""
        self._lists: Queue[list[Any] | None] = Queue(maxsize=1)
        self._error: RuntimeError | None = None
        self._is_complete = False
        stream = chunk.LazyChunkStream.from_iter(self._chunks())
        self._thread = Thread(target=self._write, args=(stream, path, recording_id), daemon=True)
        self._thread.start()

    def append(self, chunks: list[Any]) -> None:
        """Write these chunks, now or while the next ones are made. OSError if writing has failed."""
        self._hand_over(chunks)
        self._raise()

    def complete(self) -> None:
        """Write what is left and close the file. OSError if writing has failed."""
        self.abandon()
        self._raise()

    def abandon(self) -> None:
        """Close the file as it is; also after `complete`."""
        if not self._is_complete:
            self._is_complete = True
            self._hand_over(None)
            self._thread.join()

    def _hand_over(self, chunks: list[Any] | None) -> None:
        while self._thread.is_alive():
            try:
                self._lists.put(chunks, timeout=0.1)
                return
            except Full:
                continue

    def _raise(self) -> None:
        if self._error is not None:
            raise OSError(f"rerun cannot write its recording: {self._error}") from self._error

    def _chunks(self) -> Iterator[Any]:
        while (chunks := self._lists.get()) is not None:
            yield from chunks

    def _write(self, stream: Any, path: Path, recording_id: str) -> None:
        try:
            stream.write_rrd(path, application_id="da3stream", recording_id=recording_id)
        except RuntimeError as error:
            self._error = error


def _depth_range(depth: NDArray[np.float32]) -> tuple[float, float]:
    """What the colours of a depth map span: without it, the viewer takes depths for 0 to 255."""
    known = depth[np.isfinite(depth)]
    return (0.0, float(np.percentile(known, 98))) if len(known) else (0.0, 1.0)


def _recording_id(context: WriterContext) -> str:
    positions = np.ascontiguousarray(context.positions_in_world, dtype="<f8")
    return f"da3stream-{hashlib.sha256(positions.tobytes()).hexdigest()[:32]}"


def _library() -> ModuleType:
    try:
        import rerun
        import rerun.chunk
    except ImportError as error:
        raise MissingDependencyError(
            "the format rerun needs rerun's SDK", got=str(error), hint="pip install 'da3stream[rerun]'"
        ) from None
    return rerun
