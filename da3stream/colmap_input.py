"""A folder with images and a COLMAP model of them as input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from da3stream.config import Config
from da3stream.errors import FormatError, InputError
from da3stream.evaluation.colmap_model import find_model, open_model
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.source import ImageFolderSource
from da3stream.source.image_file import read_rgb

PINHOLE_MODELS = ("PINHOLE", "SIMPLE_PINHOLE")
MAX_ASPECT_DIFFERENCE = 0.01
"""Of the aspect ratios of the model's images and those in the folder, which may be smaller copies."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ColmapFolder:
    """`images/` beside `sparse/0` (or `sparse`, or the model itself): what COLMAP and 3DGS trainers read."""

    images: Path
    model: Path
    """Folder of images.bin or images.txt."""
    reconstruction: Any
    """As pycolmap has it. It owns the images and cameras that the rest refers to."""
    registered: tuple[Any, ...]
    """The images with a pose."""

    @classmethod
    def find(cls, path: str | Path) -> ColmapFolder | None:
        """The COLMAP folder at `path`; None if it is none. FormatError if its model cannot be read."""
        folder = Path(path).expanduser()
        model = find_model(folder) if (folder / "images").is_dir() else None
        if model is None:
            return None
        reconstruction = open_model(model)
        registered = tuple(image for image in reconstruction.images.values() if image.has_pose)
        return cls(
            images=folder / "images", model=model, reconstruction=reconstruction, registered=registered
        )

    def frames(self, config: Config) -> ImageFolderSource:
        """The images that the model has a pose of.

        Raises:
            InputError: the model names images in subfolders, or one that is not there.
        """
        return ImageFolderSource(self.images, config, names=self._names())

    def intrinsics(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy in pixels of the images in the folder.

        Raises:
            FormatError: the model has several different cameras, or one with distortion.
            InputError: the images have another aspect ratio than the camera.
        """
        cameras = {image.camera_id: image.camera for image in self.registered}
        first = next(iter(cameras.values()))
        for camera in cameras.values():
            self._check_camera(camera, first)
        path = self.images / min(self._names())
        image = read_rgb(path)
        size = (image.shape[1], image.shape[0])
        if abs(first.width / first.height / (size[0] / size[1]) - 1) > MAX_ASPECT_DIFFERENCE:
            raise InputError(
                f"the image {path} does not fit the camera of the COLMAP model",
                got=f"{size[0]}x{size[1]}",
                expected=f"{first.width}x{first.height}, or a smaller copy of that",
            )
        matrix = rescale_intrinsics(np.array(first.calibration_matrix()), (first.width, first.height), size)
        return float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])

    def _check_camera(self, camera: Any, first: Any) -> None:
        if camera.model.name not in PINHOLE_MODELS:
            raise FormatError(
                f"the COLMAP model in {self.model} has lens distortion",
                got=camera.model.name,
                expected=" or ".join(PINHOLE_MODELS),
                hint="Undistort it first: colmap image_undistorter --image_path images --input_path sparse/0 "
                "--output_path undistorted. Or give --intrinsics to take the images as undistorted.",
            )
        same_size = (camera.width, camera.height) == (first.width, first.height)
        if not (same_size and np.allclose(camera.params, first.params, rtol=1e-6)):
            raise FormatError(
                f"the COLMAP model in {self.model} has cameras that differ",
                got=f"{first.params_to_string()} and {camera.params_to_string()}",
                expected="one camera",
                hint="Give --intrinsics fx,fy,cx,cy to take one for all images.",
            )

    def _names(self) -> frozenset[str]:
        """Names of the images that have a pose."""
        names = frozenset(image.name for image in self.registered)
        nested = [name for name in names if PurePosixPath(name).name != name]
        if nested:
            raise InputError(
                f"the COLMAP model in {self.model} has images in subfolders",
                got=min(nested),
                expected=f"images in {self.images} itself",
            )
        missing = [name for name in names if not (self.images / name).is_file()]
        if missing:
            raise InputError(
                f"an image of the COLMAP model in {self.model} is not there",
                got=f"{len(missing)} missing, {min(missing)} for one",
                expected=f"all {len(names)} in {self.images}",
            )
        return names
