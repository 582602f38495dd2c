"""chunks/: the cloud of every chunk by itself."""

from __future__ import annotations

from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.ply import PointPly
from da3stream.writers.sampling import CloudSampler


class PlyChunksWriter(Writer):
    """chunks/000042.ply: the points of the frames that chunk 42 owns, in the world frame.

    Binary little-endian PLY with float x y z, uchar red green blue. The points of all files together are
    chosen as those of pcd/combined_pcd.ply without `voxel_size`, and at most `max_points`.
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        config = context.config
        self._sampler = CloudSampler(
            max_points=config.max_points, frames=context.frames, percentile=config.confidence_percentile
        )
        self._pending = PendingOutputs(context.outputs)
        self._folder = self._pending.folder("chunks")

    def add(self, block: FrameBlock) -> None:
        if len(block) == 0:
            return
        cloud = self._sampler.sample(block)
        with (self._folder / f"{block.submap:06d}.ply").open("xb") as stream:
            ply = PointPly(stream)
            ply.append(cloud.points_in_world, cloud.colors)
            ply.complete()

    def finish(self) -> None:
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()
