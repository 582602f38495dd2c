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
    voices: dict[int, list[_Voice]] = {frame: [] for frame in frames}
    for submap in submaps:
        for voice in _voices(submap, voices.keys()):
            voices[voice.frame].append(voice)
    silent = [frame for frame in frames if not voices[frame]]
    if silent:
        raise KeyError(f"no submap contains the frames {silent}")
    cameras = np.zeros((len(frames), 4, 4))
    scale = np.zeros(len(frames))
    for row, frame in enumerate(frames):
        cameras[row], scale[row] = _blend_pose(voices[frame]), _blend_scale(voices[frame])
    return AssembledCameras(world_from_cam=cameras, depth_scale=scale)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Voice:
    """What one submap says of one frame."""

    frame: int
    weight: float
    world_from_cam: Array
    depth_scale: float


def _voices(submap: PlacedSubmap, wanted: Iterable[int]) -> list[_Voice]:
    wanted = set(wanted)
    n = len(submap.chunk.frames)
    rows = [row for row, frame in enumerate(submap.chunk.frames) if frame in wanted]
    submap_from_cam = rigid3.invert(rigid3.to_4x4(submap.cam_from_submap[rows]))
    poses = submap.world_from_submap.move_pose(submap_from_cam)
    scale = float(submap.world_from_submap.scale)
    return [
        _Voice(
            frame=submap.chunk.frames[row], weight=min(row, n - 1 - row) + 0.5, world_from_cam=pose,
            depth_scale=scale / submap.depth_ratio.get(submap.chunk.frames[row], 1.0),
        )
        for row, pose in zip(rows, poses, strict=True)
    ]


def _blend_pose(voices: list[_Voice]) -> Array:
    if len(voices) == 1:
        return voices[0].world_from_cam
    weights = np.array([voice.weight for voice in voices])
    poses = np.stack([voice.world_from_cam for voice in voices])
    blended = np.eye(4)
    blended[:3, :3] = rigid3.mean_rotation(poses[:, :3, :3], weights)
    blended[:3, 3] = np.average(poses[:, :3, 3], axis=0, weights=weights)
    return blended


def _blend_scale(voices: list[_Voice]) -> float:
    weights = [voice.weight for voice in voices]
    return float(np.exp(np.average(np.log([voice.depth_scale for voice in voices]), weights=weights)))
