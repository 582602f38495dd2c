"""What `da3stream align` makes of a run: which way is up, and how long a metre is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import ConfigError, option
from da3stream.finishing import block_of
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.geometry.sim3 import Sim3
from da3stream.ground import GroundPlane, ground_of, up_of_cameras, up_of_ground
from da3stream.placed_map import PlacedMap
from da3stream.scene import FrameBlock, WorldAlignment
from da3stream.scene.world_alignment import UpMethod
from da3stream.store import Run
from da3stream.writers.flying_pixels import without_flying_pixels

Array = NDArray[np.float64]

GROUND_FRAMES = 200
"""So many frames, evenly over the run, say where the ground is."""
MIN_FORWARD = 0.2
"""Horizontal part of a camera's optical axis (sine of the angle to the vertical) that says what is ahead."""
FEWEST_METRES, MOST_METRES = 1e-6, 1e6
"""Of a unit of the run, and of a known distance: whatever lies outside is a slip of the hand."""
_EDGE_ANGLE_DEG = 5.0
"""Flying pixels are nobody's ground and nobody's mark, whatever the clouds of the run leave out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenePoint:
    """A point that a user can name."""

    frame: int
    """Index of a frame, from 0."""
    pixel: tuple[float, float] | None = None
    """What that frame shows there: x and y in pixels of the user's image (the centre of the top-left pixel is
    0.5, 0.5). None: its camera's centre."""

    @classmethod
    def parse(cls, text: str) -> ScenePoint:
        """`FRAME` or `FRAME:X,Y`. ConfigError for anything else."""
        match = re.fullmatch(r"(\d+)(?::(\d+(?:\.\d*)?),(\d+(?:\.\d*)?))?", text.strip())
        if match is None:
            raise ConfigError(
                f"a point of {option('known_distance')} cannot be read",
                got=repr(text),
                expected="a frame's index for its camera's centre, or FRAME:X,Y for a pixel of its image",
            )
        pixel = None if match[2] is None else (float(match[2]), float(match[3]))
        return cls(frame=int(match[1]), pixel=pixel)

    def __str__(self) -> str:
        return str(self.frame) if self.pixel is None else f"{self.frame}:{self.pixel[0]:g},{self.pixel[1]:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownDistance:
    """How far two points are apart in the real world."""

    start: ScenePoint
    end: ScenePoint
    metres: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignmentRequest:
    """What is asked for; see `da3stream.pipeline.align`."""

    up: UpMethod | None
    scale: float | None
    known_distance: KnownDistance | None
    reset: bool

    def __post_init__(self) -> None:
        if self.up is None and self.scale is None and self.known_distance is None and not self.reset:
            asked = ", ".join(map(option, ("up", "scale", "known_distance")))
            raise ConfigError("nothing to align", expected=f"{asked} or {option('reset')}")
        if self.scale is not None and self.known_distance is not None:
            raise ConfigError(f"{option('scale')} and {option('known_distance')} exclude each other")
        if self.scale is not None:
            _check_metres("scale", self.scale)
        if self.known_distance is not None:
            _check_metres("known_distance", self.known_distance.metres)


def _check_metres(name: str, value: float) -> None:
    """ConfigError for what nobody means; NaN, infinity and negative numbers among it."""
    if not FEWEST_METRES <= value <= MOST_METRES:
        raise ConfigError(
            f"{option(name)} must be a positive number of metres",
            got=value,
            expected=f"{FEWEST_METRES:g} to {MOST_METRES:g}",
        )


def choose_alignment(run: Run, placed: PlacedMap, request: AlignmentRequest) -> WorldAlignment | None:
    """What the run is to be aligned by; None: by nothing.

    Args:
        run: a finished run; what it is aligned by is kept where nothing else is asked for.
        placed: its map, not aligned.
        request: what is asked for.

    Raises:
        ConfigError: the run does not show what is asked for; the message says what to do.
    """
    kept = None if request.reset else run.alignment
    if request.up is None and request.scale is None and request.known_distance is None:
        return kept
    before = Sim3.identity() if kept is None else kept.world_from_run
    scale = _asked_scale(run, placed, request)
    rotation = before.rotation if request.up is None else _upright(run, placed, request.up)
    return WorldAlignment(
        world_from_run=Sim3(
            scale=before.scale if scale is None else scale, rotation=rotation, translation=np.zeros(3)
        ),
        up=request.up or (kept.up if kept else None),
        is_metric=scale is not None or (kept is not None and kept.is_metric),
    )


# Which way is up ------------------------------------------------------------------------------


def _upright(run: Run, placed: PlacedMap, method: UpMethod) -> Array:
    """(3, 3) rotation from the run's frame to an upright one."""
    cameras = np.concatenate([placed.assemble(record.chunk.new).world_from_cam for record in run.fine_chunks])
    up = up_of_cameras(cameras)
    if up is None:
        raise ConfigError(
            "the cameras do not say which way is up: the tops of their images point anywhere",
            hint="Captures that look straight down, or are turned over on the way, cannot be set upright.",
        )
    if method == "plane":
        up = up_of_ground(list(_grounds(run, placed, up)))
    if up is None:
        raise ConfigError(
            "no frame shows enough level ground below its camera to tell which way is up",
            hint="Take --up gravity, which asks the cameras alone.",
        )
    return upright_rotation(up, cameras[0])


def upright_rotation(up: Array, first_camera: NDArray[np.float64]) -> Array:
    """(3, 3) rotation to axes x right, y down and z ahead, where a camera looks.

    Args:
        up: (3,) unit vector.
        first_camera: (4, 4) its pose in the same frame. If it looks almost straight up or down, ahead is
            where the top of its image, or the bottom, points.
    """
    optical_axis, image_down = first_camera[:3, 2], first_camera[:3, 1]
    ahead = optical_axis - (optical_axis @ up) * up
    if np.linalg.norm(ahead) < MIN_FORWARD:
        ahead = image_down * np.sign(optical_axis @ up)
        ahead = ahead - (ahead @ up) * up
    ahead = ahead / np.linalg.norm(ahead)
    return np.stack([np.cross(-up, ahead), -up, ahead])


def _grounds(run: Run, placed: PlacedMap, cameras_up: Array) -> Iterator[GroundPlane]:
    """The ground of frames that lie evenly in the run, of those that show it."""
    frames = sum(len(record.chunk.new) for record in run.fine_chunks)
    wanted = np.unique(np.linspace(0, frames - 1, min(frames, GROUND_FRAMES)).round().astype(int))
    for record in run.fine_chunks:
        rows = np.flatnonzero(np.isin(record.chunk.new, wanted))
        if len(rows):
            block = _block(run, placed, record.chunk.index)
            planes = (ground_of(block, int(row), cameras_up) for row in rows)
            yield from (plane for plane in planes if plane is not None)


def _block(run: Run, placed: PlacedMap, index: int) -> FrameBlock:
    return without_flying_pixels(block_of(run, placed, index, run.typical_confidence), _EDGE_ANGLE_DEG)


# How long a metre is --------------------------------------------------------------------------


def _asked_scale(run: Run, placed: PlacedMap, request: AlignmentRequest) -> float | None:
    """Metres in a unit of the run, None if nothing says so."""
    known = request.known_distance
    if known is None:
        return request.scale
    apart = np.linalg.norm(_position(run, placed, known.end) - _position(run, placed, known.start))
    if not apart > 0:
        same = f"the points {known.start} and {known.end} of {option('known_distance')} are the same"
        raise ConfigError(same)
    return float(known.metres / apart)


def _position(run: Run, placed: PlacedMap, point: ScenePoint) -> Array:
    """(3,) where a point lies in the map."""
    try:
        record = run.owner(point.frame)
    except KeyError:
        frames = sum(len(record.chunk.new) for record in run.fine_chunks)
        raise ConfigError(
            "the run has no such frame", got=point.frame, expected=f"0 to {frames - 1}"
        ) from None
    row = record.chunk.new.index(point.frame)
    if point.pixel is None:
        return placed.assemble(record.chunk.new).world_from_cam[row, :3, 3]
    block = _block(run, placed, record.chunk.index)
    pose = block.world_from_cam[row]
    return pose[:3, :3] @ _seen_in_cam(block, row, point, point.pixel) + pose[:3, 3]


def _seen_in_cam(block: FrameBlock, row: int, point: ScenePoint, pixel: tuple[float, float]) -> Array:
    """(3,) what a pixel of the user's image shows, in the camera frame.

    Raises:
        ConfigError: the pixel is not in the image, or it has no depth.
    """
    width, height = (int(side) for side in block.original_size[row])
    if not (0 <= pixel[0] <= width and 0 <= pixel[1] <= height):
        raise ConfigError(f"{point} is not in the image", expected=f"a pixel of {width} x {height}")
    processed = (block.images.shape[2], block.images.shape[1])
    camera = rescale_intrinsics(block.intrinsics[row], processed, (width, height))
    ray = np.linalg.solve(camera, [pixel[0], pixel[1], 1.0])
    column, line = (block.depth_intrinsics[row] @ ray)[:2]
    h, w = block.depth.shape[1:]
    at = min(max(int(line), 0), h - 1), min(max(int(column), 0), w - 1)
    depth = float(block.depth[row][at])
    if not (block.confidence[row][at] > 0 and isfinite(depth) and depth > 0):
        raise ConfigError(
            f"no depth is known at {point}",
            hint="Name a point on a textured surface, away from edges and sky.",
        )
    return np.asarray(ray * depth)
