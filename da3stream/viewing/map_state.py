"""Where all cameras of a run are, and were before loops were closed: some 250 bytes a frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from da3stream.placed_map import PlacedMap
from da3stream.store import Run

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MapState:
    """All frames of a run, or of its beginning. Row i is frame i."""

    world_from_cam: Array
    """(N, 3, 4)"""
    depth_scale: Array
    """(N,) world units per unit of the depth of the submap that owns the frame."""
    submap: NDArray[np.int64]
    """(N,) index of the chunk that owns the frame."""
    timestamp_s: Array
    """(N,) seconds."""
    before: CamerasBefore | None
    """The same before the map was optimised; None where that is not known (yet)."""

    def __len__(self) -> int:
        return len(self.world_from_cam)

    @property
    def centres(self) -> Array:
        """(N, 3) camera centres in the world."""
        return self.world_from_cam[:, :, 3]

    @property
    def length(self) -> float:
        """Of the path, in world units."""
        return float(np.linalg.norm(np.diff(self.centres, axis=0), axis=1).sum())

    def before_optimisation(self) -> MapState:
        """The state before, or this one where it is not known."""
        if self.before is None:
            return self
        return replace(self, world_from_cam=self.before.world_from_cam, depth_scale=self.before.depth_scale)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CamerasBefore:
    """What the chain of chunks says of all frames, before the map was optimised."""

    world_from_cam: Array
    """(N, 3, 4)"""
    depth_scale: Array
    """(N,)"""


def state_of(run: Run, placed: PlacedMap) -> MapState:
    """All frames of the placed chunks, which are stored."""
    records = [run.chunks[index] for index in placed.fine]
    now = [placed.assemble(record.chunk.new) for record in records]
    chain = [placed.chain_cameras_of(index) for index in placed.fine]
    own = [slice(len(record.chunk.context), None) for record in records]
    return MapState(
        world_from_cam=np.concatenate([cameras.world_from_cam[:, :3] for cameras in now]),
        depth_scale=np.concatenate([cameras.depth_scale for cameras in now]),
        submap=np.concatenate([np.full(len(record.chunk.new), record.chunk.index) for record in records]),
        timestamp_s=np.concatenate([record.frames.timestamp_s for record in records]),
        before=CamerasBefore(
            world_from_cam=np.concatenate(
                [placed.world_from_cam[rows, :3] for placed, rows in zip(chain, own, strict=True)]
            ),
            depth_scale=np.concatenate(
                [placed.depth_scale[rows] for placed, rows in zip(chain, own, strict=True)]
            ),
        ),
    )


def first_state_of(run: Run) -> MapState:
    """The state of a finished run by its trajectory alone, in a second, however long it is.

    The scales of depth follow from how far the cameras of each chunk are apart in the world and in its
    submap. Where a chunk hardly moves, or while the map is bent, they are off by some percent, and what was
    before the optimisation is not known: `replayed_state` tells both.

    Raises:
        RunCorruptError: files of the run cannot be read.
    """
    trajectory = run.trajectory()
    starts = [*np.flatnonzero(np.diff(trajectory.submap, prepend=-1)), len(trajectory)]
    scales = np.array(
        [
            _scale_of(run, int(trajectory.submap[start]), trajectory.world_from_cam[start:stop, :3, 3])
            for start, stop in pairwise(starts)
        ]
    )
    known = scales[np.isfinite(scales)]
    scales = np.where(np.isfinite(scales), scales, np.median(known) if len(known) else 1.0)
    return MapState(
        world_from_cam=trajectory.world_from_cam[:, :3].copy(),
        depth_scale=np.repeat(scales, np.diff(starts)),
        submap=trajectory.submap,
        timestamp_s=trajectory.timestamp_s,
        before=None,
    )


def _scale_of(run: Run, index: int, centres: Array) -> float:
    """World units in a unit of a submap, by (M, 3) the centres of its own frames; NaN if they stand still."""
    cameras = run.cameras(index)
    own = cameras.cam_from_submap[len(cameras.chunk.context) :]
    in_submap = -np.einsum("nij,ni->nj", own[:, :, :3], own[:, :, 3])
    spread = _spread(in_submap)
    return _spread(centres) / spread if spread > 1e-3 * cameras.typical_depth else np.nan


def _spread(points: Array) -> float:
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum()))
