"""mesh/mesh.ply: one coloured surface of all frames."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.cloud import confident_pixels, pixel_colors
from da3stream.writers.depth_spool import DepthSpool
from da3stream.writers.mesh_ply import MeshPly
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.tsdf import FEWEST_VIEWS, DepthView, TiledFusion, load_open3d

VOXELS_TO_THE_SCENE = 200
"""Voxels in the median depth, unless `mesh_voxel` says another size."""
FARTHEST = 4.0
"""Median depths; what lies beyond is too inexact for a surface."""
FEW_FRAMES = 6
"""With fewer, what one of them has seen is kept."""


class MeshWriter(Writer):
    """Binary little-endian PLY: float x y z nx ny nz in the world frame, uchar red green blue; triangles.

    The reduced depth of all frames, without the least confident `confidence_percentile` percent of every
    block, is fused in a field of truncated signed distances (`TiledFusion`). It waits in a file until all
    frames are there: the voxel size depends on all of them, and so does every tile. Memory holds one tile,
    and of each frame which tiles it sees.
    """

    @classmethod
    def check_installed(cls) -> None:
        load_open3d()

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._pending = PendingOutputs(context.outputs)
        self._folder = self._pending.folder("mesh")
        self._spool = DepthSpool(self._folder / "depth")
        self._median_depths: list[float] = []

    def add(self, block: FrameBlock) -> None:
        for row, pixels in enumerate(confident_pixels(block, self.context.config.confidence_percentile)):
            depth = np.zeros_like(block.depth[row])
            depth.flat[pixels] = block.depth[row].flat[pixels]
            if len(pixels):
                self._median_depths.append(float(np.median(block.depth[row].flat[pixels])))
            self._spool.append(
                DepthView(
                    depth=depth,
                    colors=pixel_colors(block, row),
                    intrinsics=block.depth_intrinsics[row],
                    world_from_cam=block.world_from_cam[row],
                )
            )

    def finish(self) -> None:
        faces_path = self._folder / "faces"
        with (self._folder / "mesh.ply").open("w+b") as stream, faces_path.open("w+b") as faces:
            ply = MeshPly(stream, faces)
            if self._median_depths:
                self._fuse(ply)
            ply.complete()
        faces_path.unlink()
        self._spool.remove()
        self._pending.commit()

    def abort(self) -> None:
        self._spool.remove()
        self._pending.abort()

    def _fuse(self, ply: MeshPly) -> None:
        typical = float(np.median(self._median_depths))
        fusion = TiledFusion(
            voxel_size=self.context.config.mesh_voxel or typical / VOXELS_TO_THE_SCENE,
            farthest=FARTHEST * typical,
            fewest_views=FEWEST_VIEWS if len(self._spool) >= FEW_FRAMES else 1.0,
        )
        views_of: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for row in range(len(self._spool)):
            for tile in fusion.tiles_of(self._spool[row]).tolist():
                views_of[tuple(tile)].append(row)
        for tile_index, rows in sorted(views_of.items()):
            views = (self._spool[row] for row in rows)
            ply.append(fusion.mesh_of(np.array(tile_index), views))
