"""A COLMAP model on disk, written by COLMAP's own library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.camera import Camera
from da3stream.geometry.rigid3 import invert
from da3stream.writers.cloud import PointCloud

_CAMERA_ID = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ModelImage:
    """An image of the model."""

    name: str
    """Relative to the folder `images/`."""
    world_from_cam: NDArray[np.float64]
    """(4, 4) camera to world."""


def write_model(folder: Path, camera: Camera | None, images: Sequence[ModelImage], cloud: PointCloud) -> None:
    """Write cameras, images and points, and the trivial rig and frames that COLMAP 4 wants, as binary files.

    Binary only: COLMAP, pycolmap and the readers of the Gaussian splatting trainers prefer it where there are
    both, and `colmap model_converter` makes text of it. All images share one PINHOLE camera and are numbered
    from 1 in the order given; without images there may be no camera. The points have no tracks yet.
    Format: https://colmap.github.io/format.html
    """
    import pycolmap

    model = pycolmap.Reconstruction()
    if camera is not None:
        model.add_camera_with_trivial_rig(_pinhole(camera))
    for image_id, image in enumerate(images, start=1):
        model.add_image_with_trivial_frame(
            pycolmap.Image(name=image.name, camera_id=_CAMERA_ID, image_id=image_id),
            pycolmap.Rigid3d(invert(image.world_from_cam)[:3]),
        )
    no_track = pycolmap.Track()
    for position, color in zip(cloud.points_in_world.astype(np.float64), cloud.colors, strict=True):
        model.add_point3D(position, no_track, color)
    folder.mkdir(parents=True, exist_ok=True)
    model.write_binary(folder)


def _pinhole(camera: Camera) -> Any:
    import pycolmap

    params = [camera.fx, camera.fy, camera.cx, camera.cy]
    return pycolmap.Camera(
        model="PINHOLE", camera_id=_CAMERA_ID, width=camera.width, height=camera.height, params=params
    )
