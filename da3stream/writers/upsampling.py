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
    usable = (confidence > 0) & (depth > 0) & np.isfinite(depth)
    above = _neighbours(len(depth), height)
    left = _neighbours(depth.shape[1], width)
    weighted, weights = np.zeros((height, width)), np.zeros((height, width))
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


def _neighbours(size: int, new_size: int) -> _Neighbours:
    place = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    first = np.floor(place).astype(np.intp)
    return _Neighbours(first=first, second=np.minimum(first + 1, size - 1), fraction=place - first)
