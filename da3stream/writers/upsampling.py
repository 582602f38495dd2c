"""Depth maps at another resolution of the same camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DepthMap:
    """The depth of one image."""

    depth: NDArray[np.float32]
    """(H, W) z-depth, > 0 wherever confidence is > 0, otherwise 0."""
    confidence: NDArray[np.float32]
    """(H, W) >= 0, 0 = never use."""


def resize_depth(
    depth: NDArray[np.floating], confidence: NDArray[np.floating], height: int, width: int
) -> DepthMap:
    """Resize a depth map (h, w) to (height, width), in step with `geometry.camera.rescale_intrinsics`.

    The outer edges of both images coincide: output pixel centre x + 0.5 lies at (x + 0.5) * w / width. Depth
    is bilinear between the usable samples alone (confidence > 0 and a finite depth > 0), so that holes and
    sky do not bleed into their surroundings; confidence is that of the nearest sample.
    """
    above = _neighbours(_resized_centres(len(depth), height), len(depth))
    left = _neighbours(_resized_centres(depth.shape[1], width), depth.shape[1])
    return _interpolated(depth, confidence, above, left)


def resample_depth(
    depth: NDArray[np.floating],
    confidence: NDArray[np.floating],
    intrinsics: NDArray[np.float64],
    new_intrinsics: NDArray[np.float64],
    height: int,
    width: int,
) -> DepthMap:
    """Look through (height, width) pixels with `new_intrinsics` at a depth map (h, w) with `intrinsics`.

    Both are (3, 3) without skew and belong to one camera. Interpolated as in `resize_depth`; what lies beyond
    the map's outermost samples has their depth.
    """
    above = _neighbours(_seen_centres(intrinsics[1], new_intrinsics[1], 1, height), len(depth))
    left = _neighbours(_seen_centres(intrinsics[0], new_intrinsics[0], 0, width), depth.shape[1])
    return _interpolated(depth, confidence, above, left)


def _interpolated(
    depth: NDArray[np.floating], confidence: NDArray[np.floating], above: _Neighbours, left: _Neighbours
) -> DepthMap:
    usable = (confidence > 0) & (depth > 0) & np.isfinite(depth)
    weighted = np.zeros((len(above.first), len(left.first)))
    weights = np.zeros_like(weighted)
    for rows, row_weights in above.pairs():
        for columns, column_weights in left.pairs():
            corner = np.ix_(rows, columns)
            weight = row_weights[:, None] * column_weights * usable[corner]
            weighted += weight * np.where(usable[corner], depth[corner], 0.0)
            weights += weight
    nearest = np.ix_(above.nearest, left.nearest)
    known = usable[nearest]
    mean = np.divide(weighted, weights, out=np.zeros_like(weighted), where=known)
    return DepthMap(
        depth=mean.astype(np.float32), confidence=np.where(known, confidence[nearest], 0.0).astype(np.float32)
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Neighbours:
    """For every output sample of one axis, the two input samples around it."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    fraction: NDArray[np.float64]
    """In [0, 1): how far from first to second."""

    @property
    def nearest(self) -> NDArray[np.intp]:
        return np.where(self.fraction < 0.5, self.first, self.second)

    def pairs(self) -> tuple[tuple[NDArray[np.intp], NDArray[np.float64]], ...]:
        """Both neighbours with their weights."""
        return (self.first, 1.0 - self.fraction), (self.second, self.fraction)


def _neighbours(place: NDArray[np.float64], size: int) -> _Neighbours:
    """The samples around these places; sample i of `size` lies at i."""
    place = np.clip(place, 0, size - 1)
    first = np.floor(place).astype(np.intp)
    return _Neighbours(first=first, second=np.minimum(first + 1, size - 1), fraction=place - first)


def _resized_centres(size: int, new_size: int) -> NDArray[np.float64]:
    return (np.arange(new_size) + 0.5) * size / new_size - 0.5


def _seen_centres(
    row: NDArray[np.float64], new_row: NDArray[np.float64], axis: int, new_size: int
) -> NDArray[np.float64]:
    """Where the pixels of a line lie in another pixel grid of the same camera; rows of intrinsics."""
    ray = (np.arange(new_size) + 0.5 - new_row[2]) / new_row[axis]
    return ray * row[axis] + row[2] - 0.5
