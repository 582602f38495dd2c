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
    """Write folder/sparse/0 and folder/database.db.

    The model is binary only: where there are both, all readers prefer that to text, and `colmap
    model_converter` makes text of it. All images share one PINHOLE camera and are numbered from 1 in the
    order given; without images there may be no camera. The points have no tracks.

    The database knows the same camera and images under the same numbers, and no features yet. `colmap
    feature_extractor` numbers the images of a database of its own in the order in which its threads are done,
    and `point_triangulator` of COLMAP 4 then refuses the model (github.com/colmap/colmap/issues/798 and 2250
    show how often that happens); given this database it keeps the numbers and the camera.

    Formats: https://colmap.github.io/format.html and https://colmap.github.io/database.html
    """
    model = _model(camera, images, cloud)
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    model.write_binary(sparse)
    _write_database(folder / "database.db", model)


def _model(camera: Camera | None, images: Sequence[ModelImage], cloud: PointCloud) -> Any:
    """A `pycolmap.Reconstruction`, with the trivial rig and frames that COLMAP 4 wants."""
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
    return model


def _pinhole(camera: Camera) -> Any:
    import pycolmap

    params = [camera.fx, camera.fy, camera.cx, camera.cy]
    return pycolmap.Camera(
        model="PINHOLE", camera_id=_CAMERA_ID, width=camera.width, height=camera.height, params=params
    )


def _write_database(path: Path, model: Any) -> None:
    """Write camera, rig, frames and images of a `pycolmap.Reconstruction`, numbered as they are."""
    import pycolmap

    database = pycolmap.Database.open(path)
    with pycolmap.DatabaseTransaction(database):
        for camera in model.cameras.values():
            database.write_camera(camera, use_camera_id=True)
        for rig in model.rigs.values():
            database.write_rig(rig, use_rig_id=True)
        for frame_id in sorted(model.frames):
            database.write_frame(model.frames[frame_id], use_frame_id=True)
        for image_id in sorted(model.images):
            database.write_image(model.images[image_id], use_image_id=True)
    database.close()
