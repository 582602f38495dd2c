"""A folder with images and a COLMAP model of them as input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

    def frames(self, config: Config, lenses: Mapping[str, LensCamera] | None = None) -> ImageFolderSource:
        """The images that the model has a pose of.

        Args:
            config: which of them are taken, and their camera if it is one.
            lenses: the cameras of all, by file name, if they are several.

        Raises:
            InputError: the model names an image that is not there, or two by the same name.
        """
        return ImageFolderSource(self.images, config, names=self._names(), lenses=lenses)

    def lenses(self) -> dict[str, LensCamera]:
        """The camera of every image, by its file name, in pixels of the images in the folder.

        Raises:
            FormatError: the images differ in size, or a camera is of a model that is not known here.
            ConfigError: the images have another aspect ratio than the cameras.
        """
        cameras = {image.camera_id: image.camera for image in self.registered}
        self._check_sizes(list(cameras.values()))
        height, width = read_rgb(self.images / min(self._names())).shape[:2]
        lens_of = {number: self._lens(camera, (width, height)) for number, camera in cameras.items()}
        return {PurePosixPath(image.name).name: lens_of[image.camera_id] for image in self.registered}

    def _lens(self, camera: Any, size: tuple[int, int]) -> LensCamera:
        numbers = " ".join(repr(float(value)) for value in camera.params)
        line = f"{camera.camera_id} {camera.model.name} {camera.width} {camera.height} {numbers}"
        return colmap_cameras.read(line, str(self.model)).resized(*size).camera

    def _check_sizes(self, cameras: Sequence[Any]) -> None:
        first = cameras[0]
        for camera in cameras:
            if (camera.width, camera.height) != (first.width, first.height):
                raise FormatError(
                    f"the COLMAP model in {self.model} is of images that differ in size",
                    got=f"{first.width}x{first.height} and {camera.width}x{camera.height}",
                    expected="images of one size",
                    hint="Leave out the others, or undistort them to one size: colmap image_undistorter.",
                )

    def _names(self) -> frozenset[str]:
        """Names of the images that have a pose, relative to their folder."""
        names = frozenset(image.name for image in self.registered)
        missing = [name for name in names if not (self.images / name).is_file()]
        if missing:
            raise InputError(
                f"an image of the COLMAP model in {self.model} is not there",
                got=f"{len(missing)} missing, {min(missing)} for one",
                expected=f"all {len(names)} in {self.images}",
            )
        files: dict[str, str] = {}
        for name in sorted(names):
            other = files.setdefault(PurePosixPath(name).name, name)
            if other != name:
                raise InputError(
                    f"two images of the COLMAP model in {self.model} have the same file name",
                    got=f"{other} and {name}",
                    expected="file names that differ, whatever folder they lie in",
                )
        return names


def is_one_camera(lenses: Iterable[LensCamera]) -> bool:
    """Whether cameras are the same but for rounding."""
    first, *others = set(lenses)
    return all(
        _model_of(lens) == _model_of(first) and np.allclose(_numbers_of(lens), _numbers_of(first), rtol=1e-6)
        for lens in others
    )


def _model_of(lens: LensCamera) -> str | None:
    return None if lens.distortion is None else lens.distortion.model


def _numbers_of(lens: LensCamera) -> tuple[float, ...]:
    return lens.numbers + (() if lens.distortion is None else lens.distortion.coefficients)
