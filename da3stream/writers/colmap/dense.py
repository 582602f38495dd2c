"""A cloud of our depth in which several frames agree, thinned to a cap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.camera import unproject
from da3stream.geometry.rigid3 import invert
from da3stream.scene import FrameBlock
from da3stream.writers.cloud import PointCloud, confident_pixels, frame_cloud
from da3stream.writers.voxels import VoxelGrid

NEIGHBOURS = (1, 2, 4)
"""Frames of the block so many places before and after are asked."""
FEWEST = 2
"""Other frames that must see the point at the same depth; all of them, where there are fewer."""
TOLERANCE = 0.03
"""Relative difference of depths that agree."""
_FINEST = 1 / 500
"""Side of the finest voxels over the median depth of the first frames."""


class DensePoints:
    """Takes the points of frames block by block; holds at most `max_points`, one a voxel."""

    def __init__(self, *, max_points: int, percentile: float) -> None:
        self._max_points, self._percentile = max_points, percentile
        self._grid: VoxelGrid | None = None

    @property
    def cloud(self) -> PointCloud:
        """The points so far."""
        return PointCloud.concatenate([]) if self._grid is None else self._grid.cloud

    def add(self, block: FrameBlock) -> None:
        """Take the points in which frames of a block agree."""
        for row, pixels in enumerate(confident_pixels(block, self._percentile)):
            seen = agreeing_frames(block, row).ravel()[pixels]
            enough = min(FEWEST, len(_neighbours(row, len(block))))
            cloud = frame_cloud(block, row, pixels[seen >= enough])
            if len(cloud):
                self._grid_for(block).add(cloud)

    def _grid_for(self, block: FrameBlock) -> VoxelGrid:
        if self._grid is None:
            usable = (block.confidence > 0) & (block.depth > 0)
            side = _FINEST * float(np.median(block.depth[usable]))
            self._grid = VoxelGrid(voxel_size=side, max_points=self._max_points)
        return self._grid


def agreeing_frames(block: FrameBlock, row: int) -> NDArray[np.int64]:
    """(h, w) how many neighbouring frames of the block see each point of a frame at the same depth."""
    points = unproject(block.depth[row], block.depth_intrinsics[row]).reshape(-1, 3)
    pose = block.world_from_cam[row]
    points_in_world = points @ pose[:3, :3].T + pose[:3, 3]
    counts = np.zeros(len(points), dtype=np.int64)
    for other in _neighbours(row, len(block)):
        counts += _sees(block, other, points_in_world)
    return counts.reshape(block.depth.shape[1:])


def _neighbours(row: int, count: int) -> list[int]:
    rows = {row + sign * offset for offset in NEIGHBOURS for sign in (-1, 1)}
    return sorted(other for other in rows if 0 <= other < count)


def _sees(block: FrameBlock, row: int, points_in_world: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(K,) whether a frame has the depth of (K, 3) points where they fall into it."""
    height, width = block.depth.shape[1:]
    cam_from_world, intrinsics = invert(block.world_from_cam[row]), block.depth_intrinsics[row]
    points = points_in_world @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    ahead = points[:, 2] > 0
    place = points[:, :2] / np.where(ahead, points[:, 2], 1.0)[:, None]
    pixels = np.floor(place @ intrinsics[:2, :2].T + intrinsics[:2, 2])
    inside = ahead & (pixels >= 0).all(axis=1) & (pixels < [width, height]).all(axis=1)
    columns, rows = np.where(inside[:, None], pixels, 0).astype(np.intp).T
    depth, usable = block.depth[row][rows, columns], block.confidence[row][rows, columns] > 0
    return inside & usable & (np.abs(depth - points[:, 2]) <= TOLERANCE * points[:, 2])
