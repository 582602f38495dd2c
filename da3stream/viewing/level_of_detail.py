"""Thinning for the browser: points by voxels whose size follows how far their camera was, within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 4
"""Sizes of voxels and of drawn points, each twice the one before."""
_OF_PIXEL = 0.75
"""Size of a drawn point over the width of its pixel, at least."""
_TABLE_BITS = 26
_SHOWN, _SHOWN_FINER = np.uint8(1), np.uint8(2)
"""Marks of a voxel: a point of its level is shown, and one of a finer level."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LevelledPoints:
    """Which points of a keyframe are shown."""

    rows: tuple[NDArray[np.intp], ...]
    """By level, the rows of the points."""

    def __len__(self) -> int:
        return sum(map(len, self.rows))


class VoxelTable:
    """Which voxels are shown already, in constant memory.

    A table of 2**26 marks stands for the voxels of all levels. Two voxels that share a mark by chance lose
    one of their points: some percent of a million points, more of four, all over the scene alike.
    """

    def __init__(self, side: float, footprint: float) -> None:
        """
        Args:
            side: of the voxels of level 0 in world units, > 0.
            footprint: how wide a pixel of level 0 is at its point, in world units, > 0.
        """
        self._side, self._footprint = side, footprint
        self._marks = np.zeros(1 << _TABLE_BITS, dtype=np.uint8)

    def side(self, level: int) -> float:
        """Of the voxels of a level, in world units."""
        return self._side * 2.0**level

    def drawn(self, level: int) -> float:
        """How large the points of a level are drawn, in world units: neighbours of one image touch, even if
        voxels are smaller than pixels."""
        return max(self.side(level), _OF_PIXEL * self._footprint * 2.0**level)

    def levels_of(self, footprint: NDArray[np.floating]) -> NDArray[np.int64]:
        """(K,) the level of points whose pixels are so wide (K,): twice as wide is the next one."""
        with np.errstate(divide="ignore"):
            level = np.round(np.log2(footprint / self._footprint))
        return np.clip(np.nan_to_num(level, neginf=0), 0, LEVELS - 1).astype(np.int64)

    def add(self, points_in_world: NDArray[np.floating], footprint: NDArray[np.floating]) -> LevelledPoints:
        """Take the first point of every voxel in which none is shown yet.

        A fine point hides the coarse voxels around it, too: a nearer camera has seen that place.

        Args:
            points_in_world: (K, 3)
            footprint: (K,) widths of their pixels, in world units.
        """
        level_of = self.levels_of(footprint)
        chosen = []
        for level in range(LEVELS):
            rows = np.flatnonzero(level_of == level)
            slots = self._slots(points_in_world[rows], level)
            _, first = np.unique(slots, return_index=True)
            first = np.sort(first)
            fresh = first[self._marks[slots[first]] == 0]
            chosen.append(rows[fresh])
            self._marks[slots[fresh]] |= _SHOWN
            for coarser in range(level + 1, LEVELS):
                self._marks[self._slots(points_in_world[rows[fresh]], coarser)] |= _SHOWN_FINER
        return LevelledPoints(rows=tuple(chosen))

    def is_coarse(self, points_in_world: NDArray[np.floating], level: int) -> NDArray[np.bool_]:
        """(K,) which points (K, 3) of a level lie in voxels of which finer points are shown by now."""
        return (self._marks[self._slots(points_in_world, level)] & _SHOWN_FINER) > 0

    def _slots(self, points: NDArray[np.floating], level: int) -> NDArray[np.uint64]:
        """(K,) places in the table: multiplicative hashing (Knuth, The Art of Computer Programming, 6.4)."""
        cells = np.floor(points.astype(np.float64) / self.side(level)).astype(np.int64).astype(np.uint64)
        mixed = np.full(len(points), level + 1, dtype=np.uint64)
        for axis in range(3):
            mixed = (mixed ^ cells[:, axis]) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(32)
        return (mixed * np.uint64(0xD6E8FEB86659FD93)) >> np.uint64(64 - _TABLE_BITS)


def finest_footprint(footprints: Sequence[NDArray[np.floating]]) -> float:
    """Width of a pixel of level 0 at its point, in world units: half the median; 1 if there are no points."""
    together = np.concatenate([np.empty(0), *footprints])
    return float(np.median(together)) / 2 if len(together) else 1.0


def side_for(side: float, points: float, budget: float) -> float:
    """Side of the voxels at which so many points become about a budget: surfaces have one point a voxel, so
    that their number falls with the square of its side.

    Args:
        side: of the voxels that leave `points` points.
        points: how many that are, or may be.
        budget: how many there may be.
    """
    return side * float(np.sqrt(max(1.0, points) / max(1.0, budget)))
