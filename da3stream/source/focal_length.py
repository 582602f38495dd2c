"""The focal length of a photograph or a video, by what the camera wrote into the file."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from da3stream.source.capture_times import exif_tags
from da3stream.source.quicktime_metadata import quicktime_items

FILM_DIAGONAL_MM = math.hypot(36, 24)
QUICKTIME_KEY = "com.apple.quicktime.camera.focal_length.35mm_equivalent"
_SAME_SHAPE = 0.02
"""Relative: rounding to even sides changes no more of an image's shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExifFocal:
    """What the EXIF data of a photograph say of its focal length."""

    focal_px: float | None
    """In pixels of the image as it is; None: not known."""
    distrust: str | None
    """Why the focal length that is there is not taken, in words; None if it is, or if there is none."""


def exif_focal(path: Path, width: int, height: int) -> ExifFocal:
    """The focal length of a width x height image by FocalLengthIn35mmFilm (CIPA DC-008, tag 0xA405).

    It compares fields of view along the diagonal (CIPA DCG-001), so that the image must show all of what was
    taken. Resized ones do. Of one whose shape is not that of the size that EXIF says it was taken at
    (PixelXDimension, PixelYDimension) something was cut off, and its focal length is not taken. Programs that
    write the size after a crop cannot be seen through.
    """
    tags = exif_tags(path)
    equivalent_mm = _positive(tags.get("FocalLengthIn35mmFilm"))
    if equivalent_mm is None:  # 0 stands for unknown
        return ExifFocal(focal_px=None, distrust=None)
    taken = _positive(tags.get("PixelXDimension")), _positive(tags.get("PixelYDimension"))
    if taken[0] is not None and taken[1] is not None:
        shapes = [max(a, b) / min(a, b) for a, b in ((width, height), (taken[0], taken[1]))]
        if abs(shapes[0] / shapes[1] - 1) > _SAME_SHAPE:
            distrust = (
                f"{path.name} is {width} x {height} pixels and was taken at {taken[0]:g} x {taken[1]:g}: it "
                f"was cropped, and the focal length of its EXIF data ({equivalent_mm:g} mm) is not taken"
            )
            return ExifFocal(focal_px=None, distrust=distrust)
    return ExifFocal(focal_px=_pixels(equivalent_mm, width, height), distrust=None)


def quicktime_focal_px(path: Path, width: int, height: int) -> float | None:
    """Focal length in pixels of a width x height video by its QuickTime metadata; None if these do not say.

    Taken along the diagonal as EXIF has it, which Apple does not say: of a 16:9 video it would be 5 % more
    along the width. Stabilisation crops each frame by some percent more.
    """
    equivalent_mm = _positive(quicktime_items(path).get(QUICKTIME_KEY))
    return None if equivalent_mm is None else _pixels(equivalent_mm, width, height)


def _pixels(equivalent_mm: float, width: int, height: int) -> float:
    return equivalent_mm / FILM_DIAGONAL_MM * math.hypot(width, height)


def _positive(text: str | None) -> float | None:
    """The number at the start of a text (`26`, `26.0 mm`), if it is positive."""
    match = re.match(r"\d+(\.\d+)?", text or "")
    return float(match[0]) if match and float(match[0]) > 0 else None
