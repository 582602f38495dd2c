"""What a calibration file says of a camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

from da3stream.errors import ConfigError
from da3stream.geometry.lens import LensCamera

OPENCV_SHIFT_PX = 0.5
"""OpenCV counts pixels so that the centre of the top-left one is (0, 0); here it is (0.5, 0.5)."""
_SAME_ASPECT = 0.01
"""Images whose aspect ratios differ by at most this share may be resized ones of each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """One camera, for upright images, as read from a file."""

    camera: LensCamera
    """In pixels of images of `size`; the centre of the top-left pixel is (0.5, 0.5)."""
    size: tuple[int, int] | None
    """(width, height) in pixels; None: the file does not say."""
    format: str
    """Name of the file's format, for messages."""
    path: str
    """The file."""

    def resized(self, width: int, height: int) -> Calibration:
        """The calibration of the same camera's images at another size. The distortion stays as it is.

        A file without a size is taken to be of images of this one.

        Raises:
            ConfigError: the images have another aspect ratio (by more than 1 %), or their centre is nowhere
                near the principal point: they are of another camera, or cropped.
        """
        if self.size is None:
            self._check_principal_point(width, height)
            return replace(self, size=(width, height))
        if abs(self.size[0] * height / (self.size[1] * width) - 1) > _SAME_ASPECT:
            turned = abs(self.size[1] * height / (self.size[0] * width) - 1) <= _SAME_ASPECT
            raise ConfigError(
                f"the calibration {self.path} is of images of another shape",
                got=f"{self.size[0]}x{self.size[1]} in the file, {width}x{height} in the input",
                expected="the same aspect ratio",
                hint="The input is turned upright: a calibration must be of upright images, too."
                if turned
                else "Is it this camera's? Cropped images need a calibration of their own.",
            )
        size = (width, height)
        return replace(self, camera=self.camera.resized(self.size, size), size=size)

    def _check_principal_point(self, width: int, height: int) -> None:
        if not (0 < self.camera.cx < width and 0 < self.camera.cy < height):
            raise ConfigError(
                f"the calibration {self.path} is of images of another size: its principal point lies outside",
                got=f"({self.camera.cx:g}, {self.camera.cy:g}) in images of {width}x{height}",
                hint="It says no size, so its numbers must be in pixels of the input.",
            )
