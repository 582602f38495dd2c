"""What users do next with colmap/: COLMAP triangulates features of the images from the poses and refines both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest

from da3stream.geometry.camera import pixel_rays, rescale_intrinsics
from da3stream.source.base import OriginalImage
from da3stream.writers.colmap import ColmapWriter

from .plane_scene import HEIGHT, INTRINSICS, PLANE_NORMAL, PLANE_OFFSET, WIDTH, arc_pose, plane_block, write

SIZE = (720, 480)
FRAMES = 6


@dataclass
class RenderedOriginals:
    """The textured plane as a camera of `SIZE` sees it, one sample a pixel centre."""

    def originals(self, source_indices: Iterable[int]) -> Iterator[OriginalImage]:
        for source_index in source_indices:
            pose = arc_pose(source_index / 3 / (FRAMES - 1) * 0.5)
            _, encoded = cv2.imencode(".png", render(pose))
            yield OriginalImage(source_index=source_index, suffix=".png", data=bytes(encoded))


def render(world_from_cam: np.ndarray) -> np.ndarray:
    """(height, width) grey values of the plane."""
    width, height = SIZE
    intrinsics = rescale_intrinsics(INTRINSICS, (WIDTH, HEIGHT), SIZE)
    rays = pixel_rays(intrinsics, height, width) @ world_from_cam[:3, :3].T
    depth = (PLANE_OFFSET - PLANE_NORMAL @ world_from_cam[:3, 3]) / (rays @ PLANE_NORMAL)
    points = rays * depth[..., None] + world_from_cam[:3, 3]
    on_texture = (points[..., :2] * 100 + 1500).astype(np.float32)
    return cv2.remap(texture(), on_texture[..., 0], on_texture[..., 1], cv2.INTER_CUBIC)


def texture() -> np.ndarray:
    """Random blobs of several sizes."""
    rng = np.random.default_rng(5)
    layers = [cv2.GaussianBlur(rng.normal(size=(3000, 3000)), (0, 0), sigma) * sigma for sigma in (2, 5, 12)]
    return cv2.normalize(sum(layers), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


@pytest.fixture(scope="module")
def triangulated(tmp_path_factory) -> pycolmap.Reconstruction:
    raise NotImplementedError


def test_triangulation_and_bundle_adjustment_agree_with_the_cameras(make_context, outputs, tmp_path):
    block = plane_block(0, FRAMES, frames=2 * FRAMES - 1)
    block = replace(
        block,
        names=tuple(f"{i:06d}.png" for i in block.source_index),
        original_size=np.tile(SIZE, (FRAMES, 1)),
    )
    write(ColmapWriter(make_context(frames=FRAMES, originals=RenderedOriginals())), [block])
    model = triangulate(outputs.root / "colmap", tmp_path / "work")
    points = np.array([point.xyz for point in model.points3D.values()])
    print(len(points), model.compute_mean_reprojection_error(), model.compute_mean_track_length())
    print(np.median(np.abs(points @ PLANE_NORMAL - PLANE_OFFSET)), np.median(points @ PLANE_NORMAL - PLANE_OFFSET))
    cam = model.cameras[1].params.copy(); 
    pycolmap.bundle_adjustment(model)
    print(cam, model.cameras[1].params)


def triangulate(colmap: Path, work: Path) -> pycolmap.Reconstruction:
    """The model with points triangulated from SIFT matches; poses and camera fixed."""
    work.mkdir()
    database = work / "database.db"
    pycolmap.extract_features(database, colmap / "images", camera_mode=pycolmap.CameraMode.SINGLE, device=pycolmap.Device.cpu)
    pycolmap.match_exhaustive(database, device=pycolmap.Device.cpu)
    model = pycolmap.Reconstruction(colmap / "sparse" / "0")
    return pycolmap.triangulate_points(model, database, colmap / "images", work)
