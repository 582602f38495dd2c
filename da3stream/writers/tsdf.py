"""Surfaces from depth maps: truncated signed distances in cubes, fused by Open3D tile by tile.

Curless and Levoy, "A volumetric method for building complex models from range images" (1996). The only file
that imports open3d.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import MissingDependencyError
from da3stream.geometry.camera import pixel_rays

BLOCK = 8
"""Voxels along the side of a block, the unit in which memory is taken."""
TILE = 32
"""Blocks along the side of a tile. A tile takes some 100 MB; a solid one would take 400."""
TRUNCATION = 4.0
"""Voxels before and behind a surface where its distance is averaged."""
FEWEST_VIEWS = 2.0
"""Frames that must have seen a voxel, unless there are fewer."""
STEPS = 3
"""Points on each ray within the truncation, a block being as long as the truncation is thick."""
_NEIGHBOURS = np.array(list(product((-1, 1), repeat=3)))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DepthView:
    """One frame for the fusion."""

    depth: NDArray[np.float32]
    """(h, w) z-depth, 0 where there is none."""
    colors: NDArray[np.uint8]
    """(h, w, 3) RGB."""
    intrinsics: NDArray[np.float64]
    """(3, 3) in pixels; the centre of the top-left pixel is (0.5, 0.5)."""
    world_from_cam: NDArray[np.float64]
    """(4, 4)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mesh:
    """Triangles with shared vertices."""

    vertices: NDArray[np.float32]
    """(V, 3) in the world frame."""
    normals: NDArray[np.float32]
    """(V, 3) unit vectors towards where the cameras were."""
    colors: NDArray[np.uint8]
    """(V, 3) RGB."""
    faces: NDArray[np.int32]
    """(F, 3) rows of vertices, counter-clockwise seen from outside."""


_NOTHING = Mesh(
    vertices=np.empty((0, 3), np.float32),
    normals=np.empty((0, 3), np.float32),
    colors=np.empty((0, 3), np.uint8),
    faces=np.empty((0, 3), np.int32),
)


def load_open3d() -> ModuleType:
    """Open3D.

    Raises:
        MissingDependencyError: it is not installed, or a system library that it needs is not.
    """
    try:
        import open3d
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "a mesh needs open3d", got=str(error), hint="pip install 'da3stream[mesh]'"
        ) from None
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            "open3d is installed, but a system library that it needs is missing",
            got=str(error),
            hint="On Linux it needs libusb-1.0, libgl1, libegl1 and libgomp1 "
            "(`apt-get install libusb-1.0-0 libgl1 libegl1 libgomp1`).",
        ) from None
    return open3d


class TiledFusion:
    """Fuses depth maps in cubic tiles that fit together without gaps.

    Every voxel near a tile is computed from the same frames in the same order as in the tile that it belongs
    to, so both find the same triangles at their border. Each triangle is kept by the tile that holds its
    centroid.
    """

    def __init__(self, *, voxel_size: float, farthest: float, fewest_views: float = FEWEST_VIEWS) -> None:
        """
        Args:
            voxel_size: side of a voxel, in world units.
            farthest: depth beyond it is not used, in world units.
            fewest_views: frames that must have seen a voxel.
        """
        self._open3d = load_open3d()
        self._device = self._open3d.core.Device("CPU:0")
        self._voxel_size, self._farthest = float(voxel_size), float(farthest)
        self._fewest_views = fewest_views

    def tiles_of(self, view: DepthView) -> NDArray[np.int64]:
        """(K, 3) the tiles whose surface, or that of their nearest neighbours' borders, a frame sees."""
        blocks = self._blocks(view)
        near = np.concatenate([(blocks + offset) // TILE for offset in _NEIGHBOURS])
        return np.unique(near, axis=0).astype(np.int64)

    def mesh_of(self, tile: NDArray[np.int64], views: Iterator[DepthView]) -> Mesh:
        """The surface in a tile (3,), of the frames that see it, in their order."""
        grid, core, is_empty = self._empty_grid(), self._open3d.core, True
        for view in views:
            blocks = self._blocks(view)
            inside = ((blocks >= tile * TILE - 1) & (blocks < (tile + 1) * TILE + 1)).all(axis=1)
            if inside.any():
                is_empty = False
                grid.integrate(
                    core.Tensor(np.ascontiguousarray(blocks[inside])),
                    self._image(view.depth),
                    self._image(view.colors.astype(np.float32) * np.float32(1 / 255)),
                    *self._camera(view),
                    1.0,
                    self._farthest,
                    TRUNCATION,
                )
        if is_empty:
            return _NOTHING
        more_than = self._fewest_views - 0.5  # every frame has the weight 1
        return self._own_part(grid.extract_triangle_mesh(more_than), tile)

    def _empty_grid(self) -> Any:
        float32 = self._open3d.core.float32
        return self._open3d.t.geometry.VoxelBlockGrid(
            attr_names=("tsdf", "weight", "color"),
            attr_dtypes=(float32, float32, float32),
            attr_channels=((1,), (1,), (3,)),
            voxel_size=self._voxel_size,
            block_resolution=BLOCK,
            block_count=TILE**2 * 4,
            device=self._device,
        )

    def _blocks(self, view: DepthView) -> NDArray[np.int32]:
        """(K, 3) the blocks within the truncation of the surface that a frame sees, sorted.

        Open3D's own search looks at every fourth pixel only, which leaves holes far away.
        """
        height, width = view.depth.shape
        usable = (view.depth > 0) & (view.depth < self._farthest)
        rays = pixel_rays(view.intrinsics, height, width)[usable]
        block_size = self._voxel_size * BLOCK
        reach = TRUNCATION * self._voxel_size / np.linalg.norm(rays, axis=1)
        depths = view.depth[usable] + reach * np.linspace(-1, 1, STEPS)[:, None]
        points = (rays * depths[..., None]).reshape(-1, 3) @ view.world_from_cam[:3, :3].T
        blocks = np.floor((points + view.world_from_cam[:3, 3]) / block_size).astype(np.int32)
        return np.unique(blocks, axis=0)

    def _image(self, pixels: NDArray[np.float32]) -> Any:
        return self._open3d.t.geometry.Image(self._open3d.core.Tensor(np.ascontiguousarray(pixels)))

    def _camera(self, view: DepthView) -> tuple[Any, Any]:
        """Intrinsics, with pixel centres at integers as Open3D has them, and world-to-camera."""
        intrinsics = view.intrinsics.astype(np.float64).copy()
        intrinsics[:2, 2] -= 0.5
        tensor = self._open3d.core.Tensor
        return tensor(intrinsics), tensor(np.ascontiguousarray(np.linalg.inv(view.world_from_cam)))

    def _own_part(self, found: Any, tile: NDArray[np.int64]) -> Mesh:
        """The triangles whose centroids lie in a tile, and their vertices, always in the same order.

        Open3D's order depends on how its threads take turns.
        """
        points, faces = found.vertex.positions.numpy(), found.triangle.indices.numpy()
        centroids = points[faces].astype(np.float64).mean(axis=1)
        side = self._voxel_size * BLOCK * TILE
        faces = faces[(np.floor(centroids / side) == tile).all(axis=1)]
        used = np.unique(faces)
        order = used[np.lexsort(points[used].T)]
        renumbered = np.zeros(len(points), np.int32)
        renumbered[order] = np.arange(len(order), dtype=np.int32)
        faces = _sorted_faces(renumbered[faces])
        return Mesh(
            vertices=points[order],
            normals=found.vertex.normals.numpy()[order],
            colors=np.clip(np.rint(found.vertex.colors.numpy()[order] * 255), 0, 255).astype(np.uint8),
            faces=faces,
        )


def _sorted_faces(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Triangles that begin with their first vertex, in ascending order; none loses its orientation."""
    begin = faces.argmin(axis=1)[:, None]
    turned = np.take_along_axis(faces, (begin + np.arange(3)) % 3, axis=1)
    return turned[np.lexsort(turned.T[::-1])]
