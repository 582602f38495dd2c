"""A folder with images and a COLMAP model of them as input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from da3stream.config import Config
from da3stream.errors import FormatError, InputError
from da3stream.evaluation.colmap_model import find_model, open_model
from da3stream.geometry.lens import LensCamera
from da3stream.source import ImageFolderSource
from da3stream.source.calibration import colmap_cameras
from da3stream.source.image_file import read_rgb


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

    def camera(self) -> LensCamera:
        """The camera of all images, in pixels of those in the folder.

        Raises:
            FormatError: the model has several different cameras, or one of a model that is not known here.
            ConfigError: the images have another aspect ratio than the camera.
        """
        cameras = {image.camera_id: image.camera for image in self.registered}
        first = next(iter(cameras.values()))
        for camera in cameras.values():
            self._check_same(camera, first)
        image = read_rgb(self.images / min(self._names()))
        numbers = " ".join(repr(float(value)) for value in first.params)
        line = f"{first.camera_id} {first.model.name} {first.width} {first.height} {numbers}"
        return colmap_cameras.read(line, str(self.model)).resized(image.shape[1], image.shape[0]).camera

    def _check_same(self, camera: Any, first: Any) -> None:
        same_size = (camera.width, camera.height) == (first.width, first.height)
        if not (
            same_size and camera.model == first.model and np.allclose(camera.params, first.params, rtol=1e-6)
        ):
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
