"""A recording of rerun, for what is written in the end and for what is logged while a run goes on.

The only file that imports rerun.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import MissingDependencyError
from da3stream.geometry.camera import Camera
from da3stream.geometry.rigid3 import quaternion_wxyz
from da3stream.writers.cloud import PointCloud
from da3stream.writers.sensor_frames import SensorFrame

CAMERA = "world/camera"
IMAGE, DEPTH = f"{CAMERA}/image", f"{CAMERA}/depth"
POINTS, TRAJECTORY, LOOPS = "world/points", "world/trajectory", "world/loops"
PATH_COLOR, LOOP_COLOR = (255, 150, 25), (25, 200, 75)
UPDATE = "update"
"""Timeline of live recordings: the chunk after which something was known."""
_EYE, _TARGET = np.array([0.0, -0.5, -1.0]), np.array([0.0, 0.0, 1.0])
"""Where the map is seen from and what is looked at, in the first camera and in median depths."""
_FRUSTUM = 0.2
"""Length of the drawn cameras, in median depths."""
_PIPE_BYTES = 1 << 20


class RerunRecording:
    """A .rrd file that grows entity by entity.

    Entities are in the world frame, axes right, down, forward. Rows hold at the `frame` (index) and `time`
    (seconds) of the frames that they are given with, without frames at all times. Of two rows at one time the
    later one counts. Every call returns with its rows handed to the file: nothing waits in memory.

    With the first frames comes a blueprint. It says what the viewer shows at first: the map (cloud,
    trajectory, cameras) from behind the first camera, beside image and depth, and the timeline `frame`.
    """

    def __init__(self, path: Path, recording_id: str) -> None:
        """
        Raises:
            OSError: the file cannot be written.
            MissingDependencyError: rerun is not installed.
        """
        self._rerun = load_rerun()
        self._file = _PipedFile(path)
        stream = self._rerun.RecordingStream("da3stream", recording_id=recording_id, send_properties=False)
        self._stream = stream
        try:
            stream.save(self._file.address)
        finally:
            self._file.is_connected()
        self._scene_depth: float | None = None
        axes = self._rerun.ViewCoordinates.columns(xyz=[self._rerun.components.ViewCoordinates.RDF])
        self._send([self._chunk("world", [], axes)])

    # What is recorded -----------------------------------------------------------------------------

    def log_notes(self, notes: Mapping[str, str]) -> None:
        """Say what a reader cannot see, as the property `da3stream`; replaces what was said before."""
        rerun = self._rerun
        self._send([rerun.chunk.Chunk.from_property("da3stream", rerun.AnyValues(**notes))])

    def log_frames(self, frames: Sequence[SensorFrame], update: int | None = None) -> None:
        """Poses, images, depth and the cameras of both."""
        if self._scene_depth is None:
            self._scene_depth = _scene_depth(frames)
            self._stream.send_blueprint(self._blueprint(frames[0].world_from_cam, self._scene_depth))
        depth_cameras = [frame.depth_camera for frame in frames]
        columns = [
            (IMAGE, self._pinholes([frame.camera for frame in frames])),
            (IMAGE, self._images(frames)),
            (DEPTH, self._pinholes(depth_cameras)),
            (DEPTH, self._depth(frames)),
        ]
        times = self._times([f.index for f in frames], [f.timestamp_s for f in frames], update)
        self.log_poses(
            [f.index for f in frames],
            [f.timestamp_s for f in frames],
            np.stack([f.world_from_cam for f in frames]),
            update,
        )
        self._send([self._chunk(entity, times, column) for entity, column in columns])

    def log_poses(
        self,
        index: Sequence[int],
        timestamp_s: Sequence[float],
        world_from_cam: NDArray[np.float64],
        update: int | None = None,
    ) -> None:
        """(M, 4, 4) poses of frames."""
        times = self._times(index, timestamp_s, update)
        self._send([self._chunk(CAMERA, times, self._transforms(world_from_cam))])

    def log_points(
        self, submap: int, cloud: PointCloud, index: int, timestamp_s: float, update: int | None = None
    ) -> None:
        """The points of a submap, which appear with a frame."""
        points = self._rerun.Points3D.columns(positions=cloud.points_in_world, colors=cloud.colors)
        times = self._times([index], [timestamp_s], update)
        self._send([self._chunk(_name(POINTS, submap), times, points.partition([len(cloud)]))])

    def move_points(
        self,
        submap: int,
        world_from_logged: NDArray[np.float64],
        scale: float,
        index: int,
        timestamp_s: float,
        update: int | None = None,
    ) -> None:
        """Move the points of a submap by a similarity, whose (4, 4) turn and shift come after the scale."""
        moved = self._transforms(world_from_logged[None], scale=[[scale] * 3])
        times = self._times([index], [timestamp_s], update)
        self._send([self._chunk(_name(POINTS, submap), times, moved)])

    def log_path(
        self,
        submap: int,
        positions: NDArray[np.float64],
        index: int,
        timestamp_s: float,
        update: int | None = None,
    ) -> None:
        """(M, 3) the part of the trajectory that a submap has added; it appears with a frame."""
        times = self._times([index], [timestamp_s], update)
        self._send([self._chunk(_name(TRAJECTORY, submap), times, self._lines([positions], PATH_COLOR))])

    def log_map(self, positions: NDArray[np.float64], loops: NDArray[np.float64]) -> None:
        """(N, 3) the whole trajectory and (L, 2, 3) loops, at all times."""
        self._send(
            [
                self._chunk(TRAJECTORY, [], self._lines([positions], PATH_COLOR)),
                self._chunk(LOOPS, [], self._lines(list(loops), LOOP_COLOR)),
            ]
        )

    # The file -------------------------------------------------------------------------------------

    def complete(self) -> None:
        """Close the file. OSError if writing has failed."""
        self.abandon()
        self._file.check()

    def abandon(self) -> None:
        """Close the file as it is; also after `complete`."""
        self._stream.disconnect()
        self._file.close()

    def _send(self, chunks: list[Any]) -> None:
        self._stream.send_chunks(chunks)
        self._stream.flush()
        self._file.check()

    # rerun's words --------------------------------------------------------------------------------

    def _blueprint(self, first_camera: NDArray[np.float64], depth: float) -> Any:
        """Seen from behind and above a (4, 4) camera, as far as the scene is deep."""
        views = self._rerun.blueprint
        position, target = (
            first_camera[:3, :3] @ offset * depth + first_camera[:3, 3] for offset in (_EYE, _TARGET)
        )
        eye = views.EyeControls3D(position=position, look_target=target, eye_up=-first_camera[:3, 1])
        depth_in_3d = f"- /{DEPTH}/**"  # a second, coarser cloud of the current frame
        return views.Blueprint(
            views.Horizontal(
                views.Spatial3DView(
                    origin="/world",
                    contents=["/world/**", depth_in_3d],
                    name="map",
                    line_grid=False,
                    eye_controls=eye,
                ),
                views.Vertical(
                    views.Spatial2DView(origin=f"/{IMAGE}", name="image"),
                    views.Spatial2DView(origin=f"/{DEPTH}", name="depth"),
                ),
                column_shares=[3, 1],
            ),
            views.TimePanel(timeline="frame", fps=10.0),
        )

    def _chunk(self, entity: str, times: list[Any], columns: Any) -> Any:
        return self._rerun.chunk.Chunk.from_columns(entity, times, columns)

    def _times(self, index: Sequence[int], timestamp_s: Sequence[float], update: int | None) -> list[Any]:
        column = self._rerun.TimeColumn
        times = [column("frame", sequence=list(index)), column("time", duration=list(timestamp_s))]
        return times if update is None else [*times, column(UPDATE, sequence=[update] * len(index))]

    def _transforms(self, target_from_source: NDArray[np.float64], **more: Any) -> Any:
        turns = np.roll([quaternion_wxyz(pose[:3, :3]) for pose in target_from_source], -1, axis=1)
        return self._rerun.Transform3D.columns(
            translation=target_from_source[:, :3, 3], quaternion=turns, **more
        )

    def _lines(self, strips: list[NDArray[np.float64]], color: tuple[int, int, int]) -> Any:
        columns = self._rerun.LineStrips3D.columns(strips=strips, colors=[color] * len(strips))
        return columns.partition([len(strips)])

    def _pinholes(self, cameras: Sequence[Camera]) -> Any:
        return self._rerun.Pinhole.columns(
            image_from_camera=[camera.matrix() for camera in cameras],
            resolution=[(camera.width, camera.height) for camera in cameras],
            camera_xyz=[self._rerun.components.ViewCoordinates.RDF] * len(cameras),
            image_plane_distance=[_FRUSTUM * (self._scene_depth or 1.0)] * len(cameras),
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


class _PipedFile:
    """A file that rerun writes through a pipe.

    rerun's own files tell of no error, and a full disk makes them wait for ever; a recording in memory cannot
    be written bit by bit. What comes out of the pipe is written by a thread; after an error it is read all
    the same, so that rerun never waits.
    """

    def __init__(self, path: Path) -> None:
        """Begin. OSError if the file cannot be opened."""
        self._error: OSError | None = None
        self._file = path.open("wb")
        self._read_end, self._write_end = os.pipe()
        self.address = f"/dev/fd/{self._write_end}"
        """What rerun opens."""
        self._thread = Thread(target=self._copy, daemon=True)
        self._thread.start()

    def is_connected(self) -> None:
        """rerun has opened the pipe: from now on, it alone keeps it open."""
        os.close(self._write_end)

    def check(self) -> None:
        """Raise OSError if writing has failed."""
        if self._error is not None:
            raise OSError(
                self._error.errno, f"rerun's recording cannot be written: {self._error.strerror}"
            ) from self._error

    def close(self) -> None:
        """Wait until all is written; also a second time."""
        self._thread.join()

    def _copy(self) -> None:
        with os.fdopen(self._read_end, "rb", buffering=0) as pipe:
            while piece := pipe.read(_PIPE_BYTES):
                self._try(self._write, self._file, piece)
            self._try(self._file.close)

    def _write(self, file: BinaryIO, piece: bytes) -> None:
        if self._error is None:
            file.write(piece)
            file.flush()  # who follows the file sees it grow

    def _try(self, act: Any, *arguments: Any) -> None:
        try:
            act(*arguments)
        except OSError as error:
            self._error = self._error or error


def _name(entity: str, submap: int) -> str:
    return f"{entity}/{submap:06d}"


def _depth_range(depth: NDArray[np.float32]) -> tuple[float, float]:
    """What the colours of a depth map span: without it, the viewer takes depths for 0 to 255."""
    known = depth[np.isfinite(depth)]
    return (0.0, float(np.percentile(known, 98))) if len(known) else (0.0, 1.0)


def _scene_depth(frames: Sequence[SensorFrame]) -> float:
    """Median of what these frames know; 1 if that is nothing."""
    known = np.concatenate([frame.depth[np.isfinite(frame.depth)] for frame in frames])
    return float(np.median(known)) if len(known) else 1.0


def load_rerun() -> ModuleType:
    """rerun.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import rerun
        import rerun.blueprint
        import rerun.chunk
    except ImportError as error:
        raise MissingDependencyError(
            "the format rerun needs rerun's SDK", got=str(error), hint="pip install 'da3stream[rerun]'"
        ) from None
    return rerun
