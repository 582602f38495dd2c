"""The camera that the user knows, as numbers: what a run journals, and what resuming it compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from da3stream.config import Config
from da3stream.errors import ConfigError
from da3stream.geometry.lens import Distortion
from da3stream.source.calibration import read_calibration
from da3stream.source.image_file import read_rgb
from da3stream.source.image_folder import ImageFolderSource
from da3stream.source.live import LiveSource, PipedSource
from da3stream.source.opening import open_source
from da3stream.source.undistortion import lens_of
from da3stream.source.video import VideoSource


def with_known_camera(config: Config, source: object) -> Config:
    """The same options with the camera as numbers, in pixels of the input: `intrinsics` is no file any more.

    `distortion` becomes None where there is none. Doing it again changes nothing.

    Args:
        config: the options.
        source: what is to be reconstructed: a path, a URL, or a source object.

    Raises:
        ConfigError: the calibration is of images of another shape, or the input's size cannot be known.
        FormatError: the calibration file cannot be used.
        InputError: the input cannot be described.
    """
    if isinstance(config.intrinsics, str):
        config = _from_file(config, config.intrinsics, source)
    distortion = config.distortion
    if distortion == "none" or (distortion is not None and Distortion.parse(distortion).is_nothing):
        return config.model_copy(update={"distortion": None})
    return config


def check_undistorted(source: object, config: Config) -> None:
    """Raise ConfigError if a source object does not undistort what the options say is distorted."""
    if getattr(source, "lens", None) != lens_of(config):
        raise ConfigError(
            "the frames of a source object are taken as they are; they cannot be undistorted",
            got=f"distortion {config.distortion}",
            hint="Undistort them in the source, and give the intrinsics of the undistorted frames.",
        )


def _from_file(config: Config, path: str, source: object) -> Config:
    size = _input_size(source, config)
    found = read_calibration(path, input_size=size)
    if size is None and found.size is not None:
        numbers = ",".join(f"{value:g}" for value in found.camera.numbers)
        raise ConfigError(
            f"the size of the frames is not known before they come, and {path} is of "
            f"{found.size[0]}x{found.size[1]} images",
            hint=f"If the frames have that size, give --intrinsics {numbers} "
            f"--distortion {found.camera.distortion or 'none'}",
        )
    camera = (found if size is None else found.resized(*size)).camera
    own = None if camera.distortion is None else str(camera.distortion)
    update: dict[str, Any] = {"intrinsics": camera.numbers, "distortion": config.distortion or own}
    return config.model_copy(update=update)


def _input_size(source: object, config: Config) -> tuple[int, int] | None:
    """(width, height) of upright frames; None: not known before they come. A live input is connected to."""
    if isinstance(source, str | Path):
        unknown_camera = config.model_copy(update={"intrinsics": None, "distortion": None})
        source = open_source(source, unknown_camera)
    if isinstance(source, ImageFolderSource):
        height, width = read_rgb(source.listed()[0].path).shape[:2]
        return width, height
    if isinstance(source, VideoSource | LiveSource) and not isinstance(source, PipedSource):
        described = source.describe()
        return described.width, described.height
    return None
