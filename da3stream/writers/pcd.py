"""pcd/combined_pcd.ply: the cloud of all frames."""

from __future__ import annotations

import logging

from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.cloud import PointCloud, confident_cloud, footprint_of
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.ply import PointPly
from da3stream.writers.sampling import CloudSampler
from da3stream.writers.voxels import VoxelGrid

logger = logging.getLogger(__name__)


class PcdWriter(Writer):
    """Binary little-endian PLY: float x y z in the world frame, uchar red green blue; every frame once.

    Of the points with a confidence, the least confident `confidence_percentile` percent of every block are
    left out. Without `voxel_size` a random share of the others goes straight to the file. With it, one point
    a voxel is held until the end (`VoxelGrid` states the bound); `auto` begins with the footprint of a pixel
    in the first block that has points. Either way there are never more than `max_points`.
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._ply = PointPly(self._pending.file("pcd/combined_pcd.ply"))
        config = context.config
        self._grid: VoxelGrid | None = None
        self._sampler = CloudSampler(
            max_points=config.max_points, frames=context.frames, percentile=config.confidence_percentile
        )

    def add(self, block: FrameBlock) -> None:
        config = self.context.config
        if config.voxel_size is None:
            self._write(self._sampler.sample(block))
            return
        if self._grid is None:
            asked = footprint_of(block) if config.voxel_size == "auto" else config.voxel_size
            if asked is None:
                return  # no point has come yet
            self._grid = VoxelGrid(voxel_size=asked, max_points=config.max_points)
        self._grid.add(confident_cloud(block, config.confidence_percentile))

    def finish(self) -> None:
        if self._grid is not None:
            self._warn_if_coarser(self._grid)
            self._write(self._grid.cloud)
        self._ply.complete()
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()

    def _write(self, cloud: PointCloud) -> None:
        self._ply.append(cloud.points_in_world, cloud.colors)

    def _warn_if_coarser(self, grid: VoxelGrid) -> None:
        asked = self.context.config.voxel_size
        if asked != "auto" and grid.voxel_size != asked:
            logger.warning(
                "voxels of %g would leave more than %d points; the cloud is thinned to voxels of %g instead. "
                "Raise --max-points or --voxel-size.",
                asked, self.context.config.max_points, grid.voxel_size,
            )  # fmt: skip
