"""What is the camera of an image, a folder or a video: its metadata say, or it is estimated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from da3stream.config import Config
from da3stream.errors import ConfigError
from da3stream.estimation import estimator_on_demand, resolve_model
from da3stream.geometry.camera import Camera, rescale_intrinsics
from da3stream.scene import Frame
from da3stream.source import ImageFolderSource, open_source
from da3stream.source.focal_length import exif_focal, quicktime_focal_px
from da3stream.source.image_file import read_rgb
from da3stream.source.video import VideoSource

FEWEST_FRAMES = 3
"""That structure from motion can work with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundCamera:
    """A camera and how sure it is."""

    camera: Camera
    """In pixels of the user's upright images; the centre of the top-left pixel is (0.5, 0.5)."""
    origin: str
    """Where it comes from, in words."""
    is_sure: bool
    """False: the images hardly tell the focal length, and it may be far off."""

    @property
    def field_of_view_deg(self) -> tuple[float, float]:
        """Horizontal and vertical, in degrees."""
        camera = self.camera
        horizontal = math.atan(camera.cx / camera.fx) + math.atan((camera.width - camera.cx) / camera.fx)
        vertical = math.atan(camera.cy / camera.fy) + math.atan((camera.height - camera.cy) / camera.fy)
        return math.degrees(horizontal), math.degrees(vertical)


def camera_from_metadata(path: str, config: Config, notify: Callable[[str], None]) -> FoundCamera | None:
    """The camera by the EXIF data of the first image, or a video's QuickTime metadata; None if these do not
    say.

    Args:
        path: an image, a folder or a video.
        config: the options.
        notify: is told why something that is there is not taken.

    Raises:
        InputError: the input cannot be used.
    """
    source = open_source(path, config)
    if isinstance(source, VideoSource):
        video = source.describe()
        focal = quicktime_focal_px(source.path, video.width, video.height)
        origin = f"the QuickTime metadata of {source.path.name}, to some percent"
        if focal is None:
            return None
        return _centred(focal, video.width, video.height, origin, is_sure=False)
    if not isinstance(source, ImageFolderSource):
        return None
    first = source.listed()[0].path
    height, width = read_rgb(first).shape[:2]
    found = exif_focal(first, width, height)
    if found.distrust is not None:
        notify(f"warning: {found.distrust}")
    if found.focal_px is None:
        return None
    return _centred(found.focal_px, width, height, f"the EXIF data of {first.name}", is_sure=True)


def _centred(focal_px: float, width: int, height: int, origin: str, *, is_sure: bool) -> FoundCamera:
    camera = Camera(fx=focal_px, fy=focal_px, cx=width / 2, cy=height / 2, width=width, height=height)
    return FoundCamera(camera=camera, origin=origin, is_sure=is_sure)


def estimate_camera(path: str, config: Config, notify: Callable[[str], None]) -> FoundCamera:
    """The camera as the estimator of the options sees it in the frames that these select.

    Raises:
        ConfigError: too few frames for the estimator.
        InputError, EstimationError, WeightsError: as of a run.
    """
    source = open_source(path, config)
    # A camera does not end by itself, so not all of it is taken.
    frames = list(islice(source, config.max_frames))
    name = resolve_model(config, notify)
    if name == "classical" and len(frames) < FEWEST_FRAMES:
        raise ConfigError(
            "the classical estimator cannot tell the camera of so few images",
            got=len(frames),
            expected=f"at least {FEWEST_FRAMES} frames of a moving camera",
            hint="A network can: --model da3-base (see `da3stream weights fetch da3-base`).",
        )
    return _estimated(name, frames, config, notify)


def _with_square_pixels(camera: Camera) -> Camera:
    """Processing changes the aspect ratio by up to some percent, which estimators take for the camera's."""
    focal = math.sqrt(camera.fx * camera.fy)
    return replace(camera, fx=focal, fy=focal)


def _estimated(name: str, frames: list[Frame], config: Config, notify: Callable[[str], None]) -> FoundCamera:
    estimator = estimator_on_demand(name, config, notify)
    try:
        prediction = estimator.estimate(
            np.stack([frame.image for frame in frames]),
            indices=np.array([frame.index for frame in frames], dtype=np.int64),
        )
    finally:
        estimator.close()
    size = frames[0].size
    matrix = prediction.settled_intrinsics
    if matrix is None:
        depth_size = prediction.depth.shape[2], prediction.depth.shape[1]
        matrix = np.median(rescale_intrinsics(prediction.intrinsics, depth_size, size), axis=0)
    is_sure = prediction.settled_intrinsics is not None or name != "classical"
    original = frames[0].original_size or size
    camera = _with_square_pixels(Camera.from_matrix(matrix, *size).resized(*original))
    return FoundCamera(
        camera=camera, origin=f"estimated by {name} from {len(frames)} frames", is_sure=is_sure
    )
