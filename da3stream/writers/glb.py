"""scene.glb: points and cameras for viewers of 3D models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.cloud import PointCloud
from da3stream.writers.image_choice import evenly_along_path
from da3stream.writers.pending import PendingOutputs
from da3stream.writers.poses import time_colors
from da3stream.writers.sampling import CloudSampler

MAX_POINTS = 1_000_000
MAX_CAMERAS = 200
_FRUSTUM_SHARE = 0.05
"""Length of a drawn camera as a share of the typical depth."""
_OUTLINE = (0, 1, 5, 2, 3, 4, 1, 2, 0, 3, 0, 4)
"""One line through all edges of a frustum; the vertices are those of `_frustum`."""
_GLTF_FROM_OPENCV = np.array([1.0, -1.0, -1.0])


class GlbWriter(Writer):
    """Binary glTF 2.0 with two nodes: `points`, coloured, and `cameras`, lines coloured along time.

    glTF's axes: x right, y up, z towards the viewer, so that a viewer that opens the file stands behind the
    first camera and sees what it saw. A camera is drawn as a pyramid with a peak above its upper edge.
    At most 1,000,000 points (fewer with `max_points`) and 200 cameras, evenly over the distance travelled.
    Format: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
    """

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._chosen = np.zeros(context.frames, dtype=bool)
        self._chosen[evenly_along_path(context.positions_in_world, MAX_CAMERAS)] = True
        self._seen = 0
        self._clouds: list[PointCloud] = []
        self._cameras: list[_DrawnCamera] = []
        self._sampler = CloudSampler(
            max_points=min(MAX_POINTS, context.config.max_points),
            frames=context.frames,
            percentile=context.config.confidence_percentile,
        )
        self._pending = PendingOutputs(context.outputs)
        self._stream = self._pending.file("scene.glb")

    def add(self, block: FrameBlock) -> None:
        for row in np.flatnonzero(self._chosen[self._seen : self._seen + len(block)]):
            progress = (self._seen + row) / max(self.context.frames - 1, 1)
            self._cameras.append(_drawn_camera(block, int(row), progress))
        self._seen += len(block)
        self._clouds.append(self._sampler.sample(block))

    def finish(self) -> None:
        self._stream.write(_glb(PointCloud.concatenate(self._clouds), self._cameras))
        self._pending.commit()

    def abort(self) -> None:
        self._pending.abort()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _DrawnCamera:
    world_from_cam: NDArray[np.float64]
    """(4, 4) camera to world."""
    half_extent: tuple[float, float]
    """Half of width and height of what it sees at depth 1."""
    typical_depth: float
    """In world units, NaN if it knows none."""
    color: NDArray[np.uint8]
    """(3,) RGB."""


def _drawn_camera(block: FrameBlock, row: int, progress: float) -> _DrawnCamera:
    height, width = block.images.shape[1:3]
    known = block.depth[row][(block.confidence[row] > 0) & (block.depth[row] > 0)]
    return _DrawnCamera(
        world_from_cam=block.world_from_cam[row].copy(),
        half_extent=(0.5 * width / block.intrinsics[row, 0, 0], 0.5 * height / block.intrinsics[row, 1, 1]),
        typical_depth=float(np.median(known)) if known.size else float("nan"),
        color=time_colors(np.array([progress]))[0],
    )


def _frustum(camera: _DrawnCamera, length: float) -> NDArray[np.float64]:
    """(6, 3) in the world: centre, corners from the upper left clockwise, a peak above the upper edge."""
    x, y = camera.half_extent
    in_cam = length * np.array([[0, 0, 0], [-x, -y, 1], [x, -y, 1], [x, y, 1], [-x, y, 1], [0, -1.5 * y, 1]])
    return in_cam @ camera.world_from_cam[:3, :3].T + camera.world_from_cam[:3, 3]


def _frustum_length(cameras: Sequence[_DrawnCamera]) -> float:
    """A share of the typical depth, or 1 if nothing is known of that."""
    depths = np.array([camera.typical_depth for camera in cameras])
    known = depths[np.isfinite(depths)]
    return _FRUSTUM_SHARE * float(np.median(known)) if known.size else 1.0


def _glb(cloud: PointCloud, cameras: Sequence[_DrawnCamera]) -> bytes:
    import trimesh
    from trimesh.exchange.gltf import export_glb

    scene = trimesh.Scene()
    if len(cloud):
        points = trimesh.PointCloud(_in_gltf(cloud.points_in_world), _opaque(cloud.colors))
        scene.add_geometry(points, node_name="points", geom_name="points")
    if cameras:
        scene.add_geometry(_lines(cameras), node_name="cameras", geom_name="cameras")
    content: bytes = export_glb(scene)  # unlike `scene.export`, it knows empty scenes
    return content


def _lines(cameras: Sequence[_DrawnCamera]) -> Any:
    """A `trimesh.path.Path3D` of all cameras."""
    from trimesh.path import Path3D
    from trimesh.path.entities import Line

    length = _frustum_length(cameras)
    vertices = np.concatenate([_frustum(camera, length) for camera in cameras])
    outlines = [
        Line(6 * number + np.array(_OUTLINE), color=_opaque(camera.color))
        for number, camera in enumerate(cameras)
    ]
    return Path3D(outlines, _in_gltf(vertices), process=False)


def _in_gltf(points_in_world: NDArray[Any]) -> NDArray[np.float64]:
    return points_in_world * _GLTF_FROM_OPENCV


def _opaque(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(..., 4) RGBA of (..., 3) RGB."""
    return np.concatenate([colors, np.full_like(colors[..., :1], 255)], axis=-1)
