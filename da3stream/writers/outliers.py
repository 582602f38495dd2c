"""Points that float alone, told by the distances to their neighbours in the whole cloud."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import FrameBlock
from da3stream.writers.cloud import confident_cloud, confident_pixels, footprint_of, frame_cloud
from da3stream.writers.voxels import VoxelGrid

NEIGHBOURS = 16
MAX_VOXELS = 1_000_000
"""About 140 MB, the search for neighbours included, and 25 s of one core."""
_SLICE = 1 << 16


class OutlierFilter:
    """Statistical outlier removal (Rusu et al., "Towards 3D point cloud based object maps", 2008) for a cloud
    of any size.

    The cloud is first thinned to one point a voxel, at most `MAX_VOXELS` of them, which makes it equally
    dense where one frame and where hundreds saw it. A point of that whose mean distance to its `NEIGHBOURS`
    nearest ones is more than mean + sigma * standard deviation over all of them is an outlier, and so is
    every pixel whose point lies in its voxel. Nothing is cut into tiles: the result depends on the points
    alone, and memory on the number of voxels.
    """

    def __init__(self, blocks: Iterable[FrameBlock], *, sigma: float, percentile: float) -> None:
        """
        Args:
            blocks: all blocks; their images are not looked at.
            sigma: standard deviations, > 0.
            percentile: share of the points that no cloud will have, see `confident_pixels`.
        """
        self._grid = _thinned(blocks, percentile)
        self._is_outlier = outliers(self._grid.cloud.points_in_world, sigma)

    def clean(self, block: FrameBlock) -> FrameBlock:
        """The block with confidence 0 at outliers."""
        if not self._is_outlier.any():
            return block
        confidence = block.confidence.copy()
        for row, pixels in enumerate(confident_pixels(block, 0.0)):
            cloud = frame_cloud(block, row, pixels)
            if len(cloud) < len(pixels):
                continue  # coordinates that float32 cannot hold: pixels and points no longer correspond
            voxels = self._grid.rows_of(cloud.points_in_world)
            lone = (voxels >= 0) & self._is_outlier[voxels]
            confidence[row].ravel()[pixels[lone]] = 0
        return replace(block, confidence=confidence)


def _thinned(blocks: Iterable[FrameBlock], percentile: float) -> VoxelGrid:
    """All points, one a voxel; voxels are as wide as a pixel of the first block that has any, or wider."""
    grid = None
    for block in blocks:
        if grid is None and (side := footprint_of(block)) is not None:
            grid = VoxelGrid(voxel_size=side, max_points=MAX_VOXELS)
        if grid is not None:
            grid.add(confident_cloud(block, percentile))
    return grid or VoxelGrid(voxel_size=1.0, max_points=MAX_VOXELS)


def outliers(points: NDArray[np.float32], sigma: float) -> NDArray[np.bool_]:
    """(K,) which of (K, 3) points lie apart; none of `NEIGHBOURS` points or fewer."""
    from scipy.spatial import KDTree

    if len(points) <= NEIGHBOURS:
        return np.zeros(len(points), dtype=bool)
    tree = KDTree(points)
    apart = np.empty(len(points))
    for start in range(0, len(points), _SLICE):
        part = slice(start, start + _SLICE)
        distances, _ = tree.query(points[part], k=NEIGHBOURS + 1)
        apart[part] = distances[:, 1:].mean(axis=1)  # the first is the point itself
    return apart > apart.mean() + sigma * apart.std()
