"""A COLMAP model on disk, written by COLMAP's own library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import StoreError
from da3stream.geometry.camera import Camera
from da3stream.geometry.rigid3 import invert
from da3stream.writers.cloud import PointCloud

_CAMERA_ID = 1
_CAMERA_BYTES, _RIG_BYTES, _FRAME_BYTES, _IMAGE_BYTES, _POINT_BYTES = 56, 16, 84, 73, 51
"""What one takes in the binary files; an image beside its name."""


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
    _check_complete(sparse, images, len(cloud))
    _write_database(folder / "database.db", model)


def _check_complete(sparse: Path, images: Sequence[ModelImage], points: int) -> None:
    """Raise StoreError if the library wrote less than this takes: a full disk leaves it silent.

    Sizes by https://colmap.github.io/format.html for images without key points and points without tracks.
    """
    images_bytes = 8 + sum(_IMAGE_BYTES + len(image.name.encode()) for image in images)
    for name, expected in (
        ("cameras.bin", 8 + _CAMERA_BYTES * bool(images)),
        ("rigs.bin", 8 + _RIG_BYTES * bool(images)),
        ("frames.bin", 8 + _FRAME_BYTES * len(images)),
        ("images.bin", images_bytes),
        ("points3D.bin", 8 + _POINT_BYTES * points),
    ):
        size = (sparse / name).stat().st_size
        if size < expected:
            raise _not_written(f"sparse/0/{name}", f"{size} of {expected} bytes")


def _not_written(name: str, got: str) -> StoreError:
    return StoreError(
        f"colmap/{name} could not be written",
        got=got,
        hint="Is the disk full? What is stored until here is kept; go on with --resume.",
    )


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

    quiet, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, pycolmap.logging.Level.FATAL.value
    try:
        _fill_database(path, model)
    except RuntimeError as error:
        raise _not_written("database.db", str(error)) from error
    finally:
        pycolmap.logging.minloglevel = quiet


def _fill_database(path: Path, model: Any) -> None:
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
