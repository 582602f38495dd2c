"""The mesh of scenes whose surface is known: where it lies, which way it faces, and how its tiles meet."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from plyfile import PlyData

from da3stream.errors import MissingDependencyError
from da3stream.geometry.camera import Camera, pixel_rays
from da3stream.synthetic.render import render_depth
from da3stream.synthetic.scene import courtyard
from da3stream.writers import check_installed, tsdf
from da3stream.writers.mesh import MeshWriter
from da3stream.writers.tsdf import DepthView, Mesh, TiledFusion

from .plane_scene import PLANE_NORMAL, PLANE_OFFSET, blocks_of, write

VOXEL = 0.04
INTRINSICS = np.array([[140.0, 0, 80], [0, 140.0, 60], [0, 0, 1]])
SHAPE = (120, 160)
MIDDLE = np.array([1.5, 1.6, 1.4])
"""Of the sphere, which lies in one tile of usual size."""


def looking_at_the_middle(centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) world_from_cam of a camera at `centre`, seen from `MIDDLE`."""
    forward = -centre / np.linalg.norm(centre)
    right = np.cross(forward, [0.3, 0.2, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = MIDDLE + centre
    return pose


def sphere_view(pose: NDArray[np.float64], radius: float = 1.0) -> DepthView:
    """A sphere about the middle, coloured by the place: red where x is large, and so on."""
    rays = pixel_rays(INTRINSICS, *SHAPE)
    directions = rays @ pose[:3, :3].T
    away = pose[:3, 3] - MIDDLE
    a, b = (directions**2).sum(-1), directions @ away
    under = b * b - a * (away @ away - radius**2)
    depth = np.where(under > 0, (-b - np.sqrt(np.maximum(under, 0))) / a, 0)
    points = directions * depth[..., None] + away
    colors = np.where(depth[..., None] > 0, np.clip((points + 1) * 127.5, 0, 255), 0)
    return DepthView(
        depth=depth.astype(np.float32),
        colors=np.rint(colors).astype(np.uint8),
        intrinsics=INTRINSICS,
        world_from_cam=pose,
    )


def sphere_views() -> list[DepthView]:
    random = np.random.default_rng(0)
    centres = random.normal(size=(20, 3))
    centres *= 3 / np.linalg.norm(centres, axis=1, keepdims=True)
    return [sphere_view(looking_at_the_middle(centre)) for centre in centres]


def fused(views: list[DepthView], fusion: TiledFusion) -> list[Mesh]:
    """The meshes of all tiles that any view sees."""
    tiles = np.unique(np.concatenate([fusion.tiles_of(view) for view in views]), axis=0)
    return [fusion.mesh_of(tile, iter(views)) for tile in tiles]


def joined(meshes: list[Mesh]) -> Mesh:
    """One mesh; vertices at the same place become one."""
    counts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    places, rows, where = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, counts, strict=False)])
    return Mesh(
        vertices=places,
        normals=np.concatenate([mesh.normals for mesh in meshes])[rows],
        colors=np.concatenate([mesh.colors for mesh in meshes])[rows],
        faces=where.ravel()[faces].astype(np.int32),
    )


def edge_counts(faces: NDArray[np.int32]) -> NDArray[np.int64]:
    """How many triangles share each edge."""
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    return np.unique(edges, axis=0, return_counts=True)[1]


@pytest.fixture(scope="module")
def views() -> list[DepthView]:
    return sphere_views()


@pytest.fixture(scope="module")
def sphere(views: list[DepthView]) -> Mesh:
    return joined(fused(views, TiledFusion(voxel_size=VOXEL, farthest=10.0, fewest_views=1)))


def test_a_sphere_is_where_it_is_and_faces_outwards(sphere: Mesh) -> None:
    from_middle = sphere.vertices - MIDDLE
    radii = np.linalg.norm(from_middle, axis=1)
    assert np.abs(radii - 1).max() < VOXEL
    assert np.abs(radii - 1).mean() < 0.3 * VOXEL
    outwards = from_middle / radii[:, None]
    assert (sphere.normals * outwards).sum(axis=1).min() > 0.6
    corners = sphere.vertices[sphere.faces]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(facing, axis=1) / 2
    outward_share = (facing * (corners.mean(axis=1) - MIDDLE)).sum(axis=1) > 0
    assert area[outward_share].sum() > 0.999 * area.sum()
    assert area.sum() == pytest.approx(4 * np.pi, rel=0.03)


def test_colours_are_those_of_the_place(sphere: Mesh) -> None:
    expected = np.clip((sphere.vertices - MIDDLE + 1) * 127.5, 0, 255)
    assert np.abs(sphere.colors - expected).mean() < 3


@pytest.mark.slow
def test_tiles_meet_without_gaps_and_without_doubled_faces(
    views: list[DepthView], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small tiles give the very triangles of the one large tile."""
    fusion = TiledFusion(voxel_size=VOXEL, farthest=10.0, fewest_views=1)
    assert sum(len(mesh.faces) > 0 for mesh in fused(views, fusion)) == 1
    sphere = joined(fused(views, fusion))
    monkeypatch.setattr(tsdf, "TILE", 3)
    meshes = fused(views, fusion)
    assert sum(len(mesh.faces) > 0 for mesh in meshes) > 8
    tiled = joined(meshes)
    assert np.array_equal(tiled.vertices, sphere.vertices)
    assert sorted(map(tuple, _turned(tiled.faces))) == sorted(map(tuple, _turned(sphere.faces)))
    shared_by = edge_counts(tiled.faces)
    assert shared_by.max() == 2
    assert (shared_by == 1).mean() < 0.02  # where a single frame or none has looked


def _turned(faces: NDArray[np.int32]) -> list[list[int]]:
    begin = faces.argmin(axis=1)[:, None]
    turned: list[list[int]] = np.take_along_axis(faces, (begin + np.arange(3)) % 3, axis=1).tolist()
    return turned


@pytest.mark.slow
def test_a_courtyard_is_meshed_within_a_voxel_of_its_walls() -> None:
    """Each vertex lies near the plane of some rectangle of the scene."""
    surfaces, voxel = courtyard(), 0.1
    camera = Camera.from_matrix(INTRINSICS, width=SHAPE[1], height=SHAPE[0])
    seen = []
    for turn in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        pose = looking_at_the_middle(np.array([3.5 * np.cos(turn), -1.6, 3.5 * np.sin(turn)]))
        pose[:3, 3] -= MIDDLE
        depth = render_depth(surfaces, camera, pose)
        colors = np.zeros((*SHAPE, 3), np.uint8)
        seen.append(DepthView(depth=depth, colors=colors, intrinsics=INTRINSICS, world_from_cam=pose))
    mesh = joined(fused(seen, TiledFusion(voxel_size=voxel, farthest=12.0)))
    distances = np.full(len(mesh.vertices), np.inf)
    for surface in surfaces:
        apart = np.abs((mesh.vertices - surface.corner) @ surface.normal)
        distances = np.minimum(distances, apart)
    assert len(mesh.vertices) > 5000
    assert np.quantile(distances, 0.95) < voxel
    assert np.median(distances) < 0.1 * voxel
    assert edge_counts(mesh.faces).max() == 2


def test_what_is_far_or_seen_once_is_left_out(views: list[DepthView]) -> None:
    near = joined(fused(views[:1], TiledFusion(voxel_size=VOXEL, farthest=2.5, fewest_views=1.0)))
    distance = np.linalg.norm(near.vertices - views[0].world_from_cam[:3, 3], axis=1)
    assert len(near.vertices) > 50
    assert distance.max() < 2.5 * 1.2
    assert all(len(mesh.faces) == 0 for mesh in fused(views[:1], TiledFusion(voxel_size=VOXEL, farthest=9)))


def test_the_file_holds_the_plane_that_the_frames_saw(make_context, outputs) -> None:
    """Its pixels are a quarter of a unit wide; every face is seen from its outer side by the cameras."""
    voxel = 0.2
    context = make_context(frames=12, confidence_percentile=0, mesh_voxel=voxel)
    write(MeshWriter(context), blocks_of(12, 5))
    ply = PlyData.read(outputs.root / "mesh" / "mesh.ply")
    vertices, faces = ply["vertex"], np.vstack(ply["face"]["vertex_indices"])
    points = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(float)
    normals = np.stack([vertices[f"n{axis}"] for axis in "xyz"], axis=1)
    assert np.abs(points @ PLANE_NORMAL - PLANE_OFFSET).max() < voxel
    assert (normals @ PLANE_NORMAL < -0.95).mean() > 0.97
    corners = points[faces]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((facing @ PLANE_NORMAL) < 0).mean() > 0.99
    assert edge_counts(faces).max() == 2
    assert [path for path in outputs.visible() if path.startswith("mesh")] == ["mesh/mesh.ply"]


@pytest.mark.parametrize(("given", "expected"), [(0.25, 0.25), (None, PLANE_OFFSET / 200)])
def test_voxels_are_as_large_as_was_asked_for(make_context, outputs, given, expected) -> None:
    """Vertices lie on the edges of cubes: two of their coordinates are multiples of the side."""
    write(MeshWriter(make_context(frames=6, mesh_voxel=given)), blocks_of(6))
    vertices = PlyData.read(outputs.root / "mesh" / "mesh.ply")["vertex"]
    depths = np.concatenate([np.median(block.depth, axis=(1, 2)) for block in blocks_of(6)])
    side = expected if given else np.median(depths) / 200
    assert side == pytest.approx(expected, rel=0.2)
    steps = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(float) / side
    off_grid = np.sort(np.abs(steps - np.round(steps)), axis=1)
    assert (off_grid[:, 1] < 0.02).mean() > 0.95 if given else len(steps) > 1000


def test_without_open3d_the_run_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed(("poses", "mesh"))
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(MissingDependencyError, match=r"da3stream\[mesh\]"):
        check_installed(("poses", "mesh"))
    check_installed(("poses",))


def test_a_missing_system_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "open3d.py").write_text(
        "raise OSError('libusb-1.0.so.0: cannot open shared object file: No such file or directory')"
    )
    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"libusb-1\.0\.so\.0.*apt-get install libusb-1\.0-0"):
        check_installed(("mesh",))
