"""Thinning of a cloud to one point a voxel, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.writers.cloud import PointCloud

_FARTHEST = 2.0**60
_MAX_LEVEL = 62
_SLICE = 1 << 18


class VoxelGrid:
    """The most confident point of every cube of a grid; of equally confident ones the first.

    It never holds more than `max_points` points. When there are more occupied voxels than that, every voxel
    is merged with its neighbours to one of twice the side, again and again until the points fit. Voxels nest,
    so that the result is, but for which of equally confident points it holds, the same as if the larger side
    had been asked for. Memory: at most about 70 bytes for each of `max_points`, plus what the points of one
    `add` take, whatever the number of points that pass.
    """

    def __init__(self, *, voxel_size: float, max_points: int) -> None:
        """
        Args:
            voxel_size: side of a voxel in world units.
            max_points: how many points to hold at most, >= 1.
        """
        self._asked_size = voxel_size
        self._max_points = max_points
        self._level = 0
        self._cloud = PointCloud.concatenate([])
        self._keys = np.empty(0, dtype=np.uint64)
        """Of all occupied voxels, ascending."""
        self._rows = np.empty(0, dtype=np.intp)
        """Where in the cloud the point of each key lies."""

    @property
    def voxel_size(self) -> float:
        """Side of the voxels by now; larger than what was asked for once voxels had to be merged."""
        return self._asked_size * 2.0**self._level

    @property
    def cloud(self) -> PointCloud:
        """One point a voxel, in the order in which the voxels were first met."""
        return self._cloud

    def rows_of(self, points_in_world: NDArray[np.float32]) -> NDArray[np.intp]:
        """(K,) row of `cloud` with the point of the voxel in which each of (K, 3) points lies; -1: none."""
        if not len(self._keys):
            return np.full(len(points_in_world), -1, dtype=np.intp)
        keys = _voxel_keys(points_in_world, self._asked_size, self._level)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, self._rows[places], -1)

    def add(self, cloud: PointCloud) -> None:
        """Take in points; they may come in any number of calls."""
        keys = _voxel_keys(cloud.points_in_world, self._asked_size, self._level)
        best = _best_rows(keys, cloud.confidence)
        self._merge(cloud.take(best), keys[best])
        while len(self._cloud) > self._max_points and self._level < _MAX_LEVEL:
            self._coarsen()

    def _merge(self, cloud: PointCloud, keys: NDArray[np.uint64]) -> None:
        """Take in points of different voxels."""
        places = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), dtype=bool)
        inside = places < len(self._keys)
        known[inside] = self._keys[places[inside]] == keys[inside]
        self._improve(self._rows[places[known]], cloud.take(known))
        new_rows = len(self._cloud) + np.arange(np.count_nonzero(~known))
        self._cloud = PointCloud.concatenate([self._cloud, cloud.take(~known)])
        order = np.argsort(keys[~known])
        self._keys = np.insert(self._keys, places[~known][order], keys[~known][order])
        self._rows = np.insert(self._rows, places[~known][order], new_rows[order])

    def _improve(self, rows: NDArray[np.intp], rivals: PointCloud) -> None:
        """Replace the points of these rows by their rivals where those are more confident."""
        better = rivals.confidence > self._cloud.confidence[rows]
        winners = rivals.take(better)
        self._cloud.points_in_world[rows[better]] = winners.points_in_world
        self._cloud.colors[rows[better]] = winners.colors
        self._cloud.confidence[rows[better]] = winners.confidence

    def _coarsen(self) -> None:
        self._level += 1
        keys = _voxel_keys(self._cloud.points_in_world, self._asked_size, self._level)
        best = _best_rows(keys, self._cloud.confidence)
        self._cloud = self._cloud.take(best)
        self._rows = np.argsort(keys[best])
        self._keys = keys[best][self._rows]


def _best_rows(keys: NDArray[np.uint64], confidence: NDArray[Any]) -> NDArray[np.intp]:
    """Ascending rows of the most confident point of every key; the first of equals."""
    order = np.lexsort((-confidence, keys))
    ordered = keys[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return np.sort(order[first])


def _voxel_keys(points: NDArray[np.float32], voxel_size: float, level: int) -> NDArray[np.uint64]:
    """(K,) keys, equal for points of one voxel of side voxel_size * 2**level.

    A hash of the three voxel coordinates rather than their bits side by side, so that neither the extent of
    the scene nor the smallness of the voxels is limited. Ten million voxels collide with probability 3e-6.
    """
    keys = np.empty(len(points), dtype=np.uint64)
    for start in range(0, len(points), _SLICE):
        part = slice(start, start + _SLICE)
        cells = _voxel_coordinates(points[part], voxel_size, level).astype(np.uint64)
        keys[part] = _mixed(cells[:, 0] ^ _mixed(cells[:, 1] ^ _mixed(cells[:, 2])))
    return keys


def _voxel_coordinates(points: NDArray[np.float32], voxel_size: float, level: int) -> NDArray[np.int64]:
    """(K, 3) coordinates of the voxels in which the points lie.

    Voxels nest, and no border of a voxel lies at the same place on all levels (an alternating shift keeps the
    origin a third of a side away from it): merging must at last join all points, those around the origin too.
    """
    finest = np.clip(np.floor(points.astype(np.float64) / voxel_size), -_FARTHEST, _FARTHEST)
    shift = sum(1 << bit for bit in range(0, level, 2))
    return (finest.astype(np.int64) + shift) >> level


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all 64: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    mixed = bits + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
