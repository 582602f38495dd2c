"""Placed submaps -> one trajectory without seams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry import rigid3
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import Chunk

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlacedSubmap:
    """The cameras of a fine submap and where it lies; no pixels."""

    chunk: Chunk
    world_from_submap: Sim3
    cam_from_submap: Array
    """(N, 3, 4), rows as in `chunk.frames`."""
    depth_ratio: Mapping[int, float]
    """Frame index -> its depth in the submap that owns it over its depth here, for the context frames."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AssembledCameras:
    """Blended cameras of some frames."""

    world_from_cam: Array
    """(M, 4, 4)"""
    depth_scale: Array
    """(M,) world units per unit of the owner's depth."""


def assemble(frames: Sequence[int], submaps: Iterable[PlacedSubmap]) -> AssembledCameras:
    """Blend what the submaps say of each frame.

    Each submap speaks for its frames with a weight that falls linearly towards the ends of the chunk, so that across
    an overlap one submap fades into the next. Positions and log-scales are averaged, rotations on SO(3).

    Args:
        frames: M frame indices.
        submaps: every fine submap that contains one of them, in chunk order.

    Raises:
        KeyError: a frame lies in none of the submaps.
    """
    row_of = {frame: row for row, frame in enumerate(frames)}
    total = np.zeros(len(frames))
    position, rotation, log_scale = np.zeros((len(frames), 3)), np.zeros((len(frames), 3, 3)), np.zeros(len(frames))
    for submap in submaps:
        voice = _voice(submap, row_of)
        total[voice.row] += voice.weight
        position[voice.row] += voice.weight[:, None] * voice.world_from_cam[:, :3, 3]
        rotation[voice.row] += voice.weight[:, None, None] * voice.world_from_cam[:, :3, :3]
        log_scale[voice.row] += voice.weight * np.log(voice.depth_scale)
    if not (total > 0).all():
        silent = [frame for frame, row in row_of.items() if total[row] == 0]
        raise KeyError(f"no submap contains the frames {silent}")
    cameras = np.zeros((len(frames), 4, 4))
    cameras[:, :3, :3] = rigid3.nearest_rotation(rotation)
    cameras[:, :3, 3] = position / total[:, None]
    cameras[:, 3, 3] = 1.0
    return AssembledCameras(world_from_cam=cameras, depth_scale=np.exp(log_scale / total))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Voice:
    """What one submap says of those wanted frames that it contains."""

    row: NDArray[np.intp]
    """(K,) rows of the wanted frames."""
    weight: Array
    """(K,) > 0"""
    world_from_cam: Array
    """(K, 4, 4)"""
    depth_scale: Array
    """(K,) world units per unit of the owner's depth."""


def _voice(submap: PlacedSubmap, row_of: Mapping[int, int]) -> _Voice:
    frames = submap.chunk.frames
    own = np.array([row for row, frame in enumerate(frames) if frame in row_of], dtype=np.intp)
    submap_from_cam = rigid3.invert(rigid3.to_4x4(submap.cam_from_submap[own]))
    ratio = np.array([submap.depth_ratio.get(frames[row], 1.0) for row in own])
    return _Voice(
        row=np.array([row_of[frames[row]] for row in own], dtype=np.intp),
        weight=np.minimum(own, len(frames) - 1 - own) + 0.5,
        world_from_cam=submap.world_from_submap.move_pose(submap_from_cam),
        depth_scale=float(submap.world_from_submap.scale) / ratio,
    )
