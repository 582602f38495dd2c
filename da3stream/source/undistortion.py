"""Takes the distortion of the lens out of images, at full size, before anything else is done to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import ConfigError, InputError
from da3stream.geometry.lens import LensCamera

if TYPE_CHECKING:  # the decoder process does without pydantic
    from da3stream.config import CameraConfig


def lens_of(config: CameraConfig) -> LensCamera | None:
    """The camera whose distortion is to be taken out; None: none is known.

    Raises:
        ConfigError: the intrinsics are a file that nobody has read (see `with_known_camera`).
    """
    if isinstance(config.intrinsics, str):
        raise ConfigError("the calibration file must be read before the input", got=config.intrinsics)
    if config.intrinsics is None or config.distortion in (None, "none"):
        return None
    return LensCamera.of(config.intrinsics, config.distortion)


class Undistorter:
    """Makes pinhole images of those that a lens made; their camera is `LensCamera.pinhole`.

    Pixels are interpolated bicubically. Holds a map of 6 bytes a pixel once it has seen the first image. It
    may be called from several threads.
    """

    def __init__(self, lens: LensCamera) -> None:
        self._lens = lens
        self._lock = Lock()
        self._size: tuple[int, int] | None = None
        self._maps: tuple[Any, Any] | None = None

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The undistorted image of an upright one, (H, W, 3) uint8 in any order of colours.

        Raises:
            InputError: the distortion cannot be that of images of this size.
        """
        import cv2

        first, second = self._maps_for(image.shape[1], image.shape[0])
        # Half of the outermost pixels lies beyond the last centres: there the border is continued.
        return cv2.remap(image, first, second, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    def _maps_for(self, width: int, height: int) -> tuple[Any, Any]:
        import cv2

        with self._lock:
            if self._maps is None or self._size != (width, height):
                try:
                    pixels = self._lens.pixel_map(width, height)
                except ValueError as error:
                    raise InputError(
                        f"images of {width}x{height} pixels cannot be undistorted: {error}",
                        hint="Are --intrinsics and --distortion those of this camera, at this resolution?",
                    ) from None
                self._maps = cv2.convertMaps(pixels, None, cv2.CV_16SC2)
                self._size = width, height
            return self._maps


@lru_cache(maxsize=8)  # cameras of a rig; the maps of one take 6 bytes a pixel
def undistorter_for(lens: LensCamera) -> Undistorter | None:
    """What undistorts the images of one of several cameras; None for a pinhole camera."""
    is_pinhole = lens.distortion is None or lens.distortion.is_nothing
    return None if is_pinhole else Undistorter(lens)


def lens_fields(lens: LensCamera | None) -> dict[str, Any]:
    """What tells another process of the lens; nothing if there is none."""
    return {} if lens is None else {"lens": [*lens.numbers, str(lens.distortion)]}


def undistorter_of(fields: dict[str, Any]) -> Undistorter | None:
    """The undistorter for what `lens_fields` made; the same one each time."""
    lens: Sequence[Any] | None = fields.get("lens")
    return None if lens is None else _shared_undistorter(*lens)


@cache
def _shared_undistorter(fx: float, fy: float, cx: float, cy: float, distortion: str) -> Undistorter:
    return Undistorter(LensCamera.of((fx, fy, cx, cy), distortion))
