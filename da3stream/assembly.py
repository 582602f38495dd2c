"""Placed submaps -> one trajectory without seams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry import rigid3
from da3stream.scene import PlacedCameras

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AssembledCameras:
    """Blended cameras of some frames."""

    world_from_cam: Array
    """(M, 4, 4)"""
    depth_scale: Array
    """(M,) world units per unit of the owner's depth."""


def assemble(frames: Sequence[int], submaps: Iterable[PlacedCameras]) -> AssembledCameras:
    """Blend what the submaps say of each frame.

    Each submap speaks for its frames with a weight that falls linearly towards those ends of its chunk where
    another submap takes over, so that one submap fades into the next across an overlap, however short the
    last one is. Of keyframes that it has recalled from further back it says nothing. Positions and log-scales
    are averaged, rotations on SO(3).

    Args:
        frames: M frame indices.
        submaps: every fine submap whose window contains one of them, in chunk order. `depth_scale` is per
            unit of the depth in the submap that owns the frame.

    Raises:
        KeyError: a frame lies in none of the submaps.
    """
    row_of = {frame: row for row, frame in enumerate(frames)}
    voices = [_voice(submap, row_of) for submap in submaps]
    last = np.full(len(frames), -1)
    for number, voice in enumerate(voices):
        last[voice.row] = number
    if (last < 0).any():
        silent = [frame for frame, row in row_of.items() if last[row] < 0]
        raise KeyError(f"no submap contains the frames {silent}")
    total, log_scale = np.zeros(len(frames)), np.zeros(len(frames))
    position, rotation = np.zeros((len(frames), 3)), np.zeros((len(frames), 3, 3))
    for number, voice in enumerate(voices):
        # Nobody takes over from the last one that speaks for a frame, so it does not fade out.
        weight = np.where(last[voice.row] == number, voice.fade_in, np.minimum(voice.fade_in, voice.fade_out))
        total[voice.row] += weight
        position[voice.row] += weight[:, None] * voice.world_from_cam[:, :3, 3]
        rotation[voice.row] += weight[:, None, None] * voice.world_from_cam[:, :3, :3]
        log_scale[voice.row] += weight * np.log(voice.depth_scale)
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
    fade_in: Array
    """(K,) > 0, distance from the start of the chunk; constant for the first chunk, whom nobody precedes."""
    fade_out: Array
    """(K,) > 0, distance from the end of the chunk."""
    world_from_cam: Array
    """(K, 4, 4)"""
    depth_scale: Array
    """(K,) world units per unit of the owner's depth."""


def _voice(submap: PlacedCameras, row_of: Mapping[int, int]) -> _Voice:
    frames, recalled = submap.chunk.window, len(submap.chunk.recalled)
    own = np.array([place for place, frame in enumerate(frames) if frame in row_of], dtype=np.intp)
    from_start = own.astype(np.float64) + 0.5
    return _Voice(
        row=np.array([row_of[frames[place]] for place in own], dtype=np.intp),
        fade_in=from_start if submap.chunk.context else np.full(len(own), float(len(frames))),
        fade_out=len(frames) - from_start,
        world_from_cam=submap.world_from_cam[own + recalled],
        depth_scale=submap.depth_scale[own + recalled],
    )
