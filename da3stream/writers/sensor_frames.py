"""Finished frames as the readings of a camera and a depth sensor, for formats that record robots.

rerun, MCAP and ROS 2 bags say the same things in other words: an image, a depth image, the camera of each, a
pose and a time for every frame, and points for every block. Both images keep the resolution at which they are
stored (processing resolution, reduced depth) and have a camera of their own, so that no depth is resampled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import InputError
from da3stream.geometry.camera import Camera
from da3stream.geometry.rigid3 import quaternion_wxyz
from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.cloud import PointCloud
from da3stream.writers.sampling import CloudSampler

MAX_POINTS = 2_000_000
"""Of all blocks: programs that show recordings hold all points at once. `max_points` may be less."""

JPEG_QUALITY = 92
WORLD, CAMERA = "world", "camera"
"""Names of the two coordinate frames."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SensorFrame:
    """One frame."""

    index: int
    """Frame index."""
    timestamp_s: float
    """Seconds."""
    jpeg: bytes
    """The image at processing resolution."""
    camera: Camera
    """Of the image. The centre of the top-left pixel is (0.5, 0.5)."""
    depth: NDArray[np.float32]
    """(h, w) z-depth in world units, NaN where it is not known."""
    depth_camera: Camera
    """Of the depth image, likewise."""
    world_from_cam: NDArray[np.float64]
    """(4, 4) camera to world, OpenCV axes."""

    @property
    def timestamp_ns(self) -> int:
        """Nanoseconds.

        Raises:
            InputError: the time is negative, for which these formats have no place.
        """
        if self.timestamp_s < 0:
            raise InputError(
                f"frame {self.index} comes before time 0, which this format cannot say",
                got=f"{self.timestamp_s} s",
                hint="Run again with `--start 0`.",
            )
        return round(self.timestamp_s * 1e9)

    @property
    def position(self) -> NDArray[np.float64]:
        """(3,) camera centre in the world."""
        return self.world_from_cam[:3, 3]

    @property
    def rotation_xyzw(self) -> NDArray[np.float64]:
        """(4,) unit quaternion, camera to world, w last."""
        return np.roll(quaternion_wxyz(self.world_from_cam[:3, :3]), -1)


def sensor_frames(block: FrameBlock) -> Iterator[SensorFrame]:
    """The frames of a block, one at a time."""
    height, width = block.images.shape[1:3]
    depth_height, depth_width = block.depth.shape[1:]
    for row in range(len(block)):
        depth = block.depth[row].astype(np.float32)
        usable = (block.confidence[row] > 0) & (depth > 0) & np.isfinite(depth)
        yield SensorFrame(
            index=int(block.index[row]),
            timestamp_s=float(block.timestamp_s[row]),
            jpeg=_jpeg(block.images[row]),
            camera=Camera.from_matrix(block.intrinsics[row], width, height),
            depth=np.where(usable, depth, np.float32(np.nan)),
            depth_camera=Camera.from_matrix(block.depth_intrinsics[row], depth_width, depth_height),
            world_from_cam=block.world_from_cam[row],
        )


class SensorWriter(Writer):
    """Writes the frames of each block as they come, then its points."""

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._sampler = cloud_sampler(context)

    def add(self, block: FrameBlock) -> None:
        """Write the frames of one block. InputError if the format cannot say their times."""
        last: SensorFrame | None = None
        for last in sensor_frames(block):
            self._write_frame(last)
        if last is not None:
            self._write_points(self._sampler.sample(block), last)

    @abstractmethod
    def _write_frame(self, frame: SensorFrame) -> None:
        """Write one frame."""

    @abstractmethod
    def _write_points(self, cloud: PointCloud, last: SensorFrame) -> None:
        """Write the points of a block, of which this is the last frame."""


def index_matrix(camera: Camera) -> NDArray[np.float64]:
    """(3, 3) intrinsics for OpenCV, ROS and Foxglove, where the centre of the top-left pixel is (0, 0)."""
    matrix = camera.matrix()
    matrix[:2, 2] -= 0.5
    return matrix


def cloud_sampler(context: WriterContext) -> CloudSampler:
    """Takes the points of each block."""
    config = context.config
    return CloudSampler(
        max_points=min(config.max_points, MAX_POINTS),
        frames=context.frames,
        percentile=config.confidence_percentile,
    )


def loop_segments(context: WriterContext) -> NDArray[np.float64]:
    """(L, 2, 3) camera centres of the two frames of every loop that the optimisation kept."""
    pairs = [
        (loop.candidate.later, loop.candidate.earlier)
        for loop in context.loops
        if loop.chunk is not None and context.loops_used[loop.chunk]
    ]
    return context.positions_in_world[np.array(pairs, dtype=np.intp).reshape(-1, 2)]


def conventions(context: WriterContext) -> dict[str, str]:
    """What a reader of the recording cannot see in it, as text; put where the format has a place for it."""
    return conventions_of(context.timestamps_are_synthetic, "metres" if context.is_metric else "arbitrary")


def conventions_of(timestamps_are_synthetic: bool, unit: str) -> dict[str, str]:
    """The same of a capture with these times and this unit."""
    return {
        "timestamps": "synthetic" if timestamps_are_synthetic else "container",
        "unit": unit,
        "camera": "OpenCV (x right, y down, z forward)",
        "world": "the first frame's camera, unless the run was aligned otherwise",
        "depth": "z-depth in world units, NaN where unknown",
    }


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    import cv2

    bgr = np.ascontiguousarray(image[..., ::-1])
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(encoded)
