"""What users do next with colmap/: let COLMAP triangulate features of the images from the poses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pycolmap

from da3stream.geometry.camera import pixel_rays, rescale_intrinsics
from da3stream.source.base import OriginalImage
from da3stream.writers.colmap import ColmapWriter

from .plane_scene import (
    HEIGHT,
    INTRINSICS,
    PLANE_NORMAL,
    PLANE_OFFSET,
    WIDTH,
    plane_block,
    plane_depth,
    write,
)

SIZE = (480, 320)
BLOCK = plane_block(0, 5, frames=9)
TEXELS_PER_UNIT = 75


class RenderedOriginals:
    """The textured plane as a camera of `SIZE` sees it."""

    def originals(self, source_indices: Iterable[int]) -> Iterator[OriginalImage]:
        for row, source_index in enumerate(source_indices):
            _, encoded = cv2.imencode(".png", render(BLOCK.world_from_cam[row]))
            yield OriginalImage(source_index=source_index, suffix=".png", data=bytes(encoded))


def render(world_from_cam: np.ndarray) -> np.ndarray:
    """(height, width) grey values: those of the plane where the rays through the pixel centres meet it."""
    width, height = SIZE
    intrinsics = rescale_intrinsics(INTRINSICS, (WIDTH, HEIGHT), SIZE)
    rays = pixel_rays(intrinsics, height, width) @ world_from_cam[:3, :3].T
    depth = plane_depth(world_from_cam, intrinsics, height, width)
    points = rays * depth[..., None] + world_from_cam[:3, 3]
    place = (points[..., :2] * TEXELS_PER_UNIT + 500).astype(np.float32)
    return cv2.remap(texture(), place[..., 0], place[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)


@cache
def texture() -> np.ndarray:
    """Random blobs of several sizes."""
    rng = np.random.default_rng(5)
    layers = [cv2.GaussianBlur(rng.normal(size=(1000, 1200)), (0, 0), sigma) * sigma for sigma in (2, 4, 9)]
    return cv2.normalize(sum(layers), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def triangulate(colmap: Path) -> pycolmap.Reconstruction:
    """The model with the points of SIFT matches; poses and camera stay as they are."""
    database, images = colmap / "database.db", colmap / "images"
    options = pycolmap.FeatureExtractionOptions()
    options.sift.max_num_features = 600
    options.sift.first_octave = 0
    pycolmap.extract_features(database, images, extraction_options=options, device=pycolmap.Device.cpu)
    pycolmap.match_exhaustive(database, device=pycolmap.Device.cpu)
    model = pycolmap.Reconstruction(colmap / "sparse" / "0")
    return pycolmap.triangulate_points(model, database, images, colmap / "triangulated")


def test_colmap_triangulates_the_scene(make_context, outputs):
    """The images pass through no code of ours, so that poses, camera and pixel centres are all tested."""
    names = tuple(f"{i:06d}.png" for i in BLOCK.source_index)
    block = replace(BLOCK, names=names, original_size=np.tile(SIZE, (len(BLOCK), 1)))
    write(ColmapWriter(make_context(frames=len(BLOCK), originals=RenderedOriginals())), [block])
    model = triangulate(outputs.root / "colmap")
    assert model.num_reg_images() == len(BLOCK)
    assert model.num_points3D() > 300
    assert model.compute_mean_track_length() > 3
    points = np.array([point.xyz for point in model.points3D.values()])
    error = points @ PLANE_NORMAL - PLANE_OFFSET
    assert model.compute_mean_reprojection_error() < 0.12
    assert np.median(np.abs(error)) < 0.015
    assert abs(np.median(error)) < 0.003
