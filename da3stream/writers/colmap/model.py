"""A COLMAP model and its database on disk, written by COLMAP's own library.

Formats: https://colmap.github.io/format.html and https://colmap.github.io/database.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import StoreError
from da3stream.geometry.camera import Camera
from da3stream.geometry.rigid3 import invert

_CAMERA_BYTES, _RIG_BYTES, _FRAME_BYTES, _IMAGE_BYTES, _POINT_BYTES = 24, 16, 84, 73, 51
"""What one takes in the binary files at least; a camera beside its parameters, an image beside its name."""
_KEYPOINT_BYTES, _TRACK_BYTES, _PARAMETER_BYTES = 24, 8, 8
_PARAMETERS: dict[str, Callable[[Camera], tuple[float, ...]]] = {
    "PINHOLE": lambda c: (c.fx, c.fy, c.cx, c.cy),
    "SIMPLE_PINHOLE": lambda c: (sqrt(c.fx * c.fy), c.cx, c.cy),
    "SIMPLE_RADIAL": lambda c: (sqrt(c.fx * c.fy), c.cx, c.cy, 0.0),
    "OPENCV": lambda c: (c.fx, c.fy, c.cx, c.cy, 0.0, 0.0, 0.0, 0.0),
}
"""COLMAP's parameters of our pinhole cameras; there is no distortion to begin with."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ModelImage:
    """An image of the model."""

    name: str
    """Relative to the folder `images/`."""
    world_from_cam: NDArray[np.float64]
    """(4, 4) camera to world."""
    camera: int = 0
    """Which of the cameras took it, from 0."""


def build_model(cameras: Sequence[Camera], images: Sequence[ModelImage], camera_model: str) -> Any:
    """A `pycolmap.Reconstruction` without points, with the trivial rigs and frames that COLMAP 4 wants.

    Cameras and images are numbered from 1 in the order given.
    """
    import pycolmap

    model = pycolmap.Reconstruction()
    for camera_id, camera in enumerate(cameras, start=1):
        model.add_camera_with_trivial_rig(_native_camera(camera_id, camera, camera_model))
    for image_id, image in enumerate(images, start=1):
        model.add_image_with_trivial_frame(
            pycolmap.Image(name=image.name, camera_id=image.camera + 1, image_id=image_id),
            pycolmap.Rigid3d(invert(image.world_from_cam)[:3]),
        )
    return model


def _native_camera(camera_id: int, camera: Camera, camera_model: str) -> Any:
    import pycolmap

    native = pycolmap.Camera(
        model=camera_model,
        camera_id=camera_id,
        width=camera.width,
        height=camera.height,
        params=[float(number) for number in _PARAMETERS[camera_model](camera)],
    )
    # Otherwise `colmap mapper` takes the focal length for a guess.
    native.has_prior_focal_length = True
    return native


def add_points(model: Any, points_in_world: NDArray[Any], colors: NDArray[np.uint8]) -> None:
    """Add (K, 3) points with (K, 3) RGB and without tracks to a `pycolmap.Reconstruction`."""
    import pycolmap

    no_track = pycolmap.Track()
    for position, color in zip(points_in_world.astype(np.float64), colors, strict=True):
        model.add_point3D(position, no_track, color)


def write_model(folder: Path, model: Any, file_format: str) -> None:
    """Write folder/sparse/0 of a `pycolmap.Reconstruction` as `binary`, as `text`, or as `both`.

    Raises:
        StoreError: not all of it could be written. A full disk leaves the library silent.
    """
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    if file_format != "text":
        model.write_binary(sparse)
        _check_binary(sparse, model)
    if file_format != "binary":
        model.write_text(sparse)
        _check_text(sparse, model)


def _check_binary(sparse: Path, model: Any) -> None:
    images, points = model.images.values(), model.points3D.values()
    cameras_bytes = sum(_CAMERA_BYTES + _PARAMETER_BYTES * len(c.params) for c in model.cameras.values())
    images_bytes = sum(
        _IMAGE_BYTES + len(image.name.encode()) + _KEYPOINT_BYTES * image.num_points2D() for image in images
    )
    points_bytes = sum(_POINT_BYTES + _TRACK_BYTES * point.track.length() for point in points)
    for name, expected in (
        ("cameras.bin", cameras_bytes),
        ("rigs.bin", _RIG_BYTES * len(model.rigs)),
        ("frames.bin", _FRAME_BYTES * len(model.frames)),
        ("images.bin", images_bytes),
        ("points3D.bin", points_bytes),
    ):
        size = (sparse / name).stat().st_size
        if size < 8 + expected:
            raise _not_written(f"sparse/0/{name}", f"{size} of {8 + expected} bytes")


def _check_text(sparse: Path, model: Any) -> None:
    for name, expected in (
        ("cameras.txt", len(model.cameras)),
        ("rigs.txt", len(model.rigs)),
        ("frames.txt", len(model.frames)),
        ("images.txt", 2 * len(model.images)),
        ("points3D.txt", len(model.points3D)),
    ):
        with (sparse / name).open("rb") as stream:
            lines = sum(line.endswith(b"\n") and not line.startswith(b"#") for line in stream)
        if lines < expected:
            raise _not_written(f"sparse/0/{name}", f"{lines} of {expected} lines")


def _not_written(name: str, got: str) -> StoreError:
    return StoreError(
        f"colmap/{name} could not be written",
        got=got,
        hint="Is the disk full? What is stored until here is kept; go on with --resume.",
    )


@contextmanager
def open_database(folder: Path) -> Iterator[Any]:
    """folder/database.db as a `pycolmap.Database` within one transaction.

    Raises:
        StoreError: the library failed to write.
    """
    import pycolmap

    quiet, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, pycolmap.logging.Level.FATAL.value
    try:
        database = pycolmap.Database.open(folder / "database.db")
        with pycolmap.DatabaseTransaction(database):
            yield database
        database.close()
    except RuntimeError as error:
        raise _not_written("database.db", str(error)) from error
    finally:
        pycolmap.logging.minloglevel = quiet


def write_cameras_and_images(database: Any, model: Any) -> None:
    """Write cameras, rigs, frames and images of a `pycolmap.Reconstruction`, numbered as they are.

    `colmap feature_extractor` numbers the images of a database of its own in the order in which its threads
    are done, and `point_triangulator` of COLMAP 4 then refuses the model (github.com/colmap/colmap/issues/798
    and 2250 show how often that happens); given this database it keeps the numbers and the camera.
    """
    for camera in model.cameras.values():
        database.write_camera(camera, use_camera_id=True)
    for rig in model.rigs.values():
        database.write_rig(rig, use_rig_id=True)
    for frame_id in sorted(model.frames):
        database.write_frame(model.frames[frame_id], use_frame_id=True)
    for image_id in sorted(model.images):
        database.write_image(model.images[image_id], use_image_id=True)
