"""The focal length of a photograph, by its EXIF data."""

from __future__ import annotations

import math
from pathlib import Path

from da3stream.source.capture_times import exif_tags

FILM_DIAGONAL_MM = math.hypot(36, 24)


def exif_focal_px(path: Path, width: int, height: int) -> float | None:
    """Focal length in pixels of a width x height image; None if the EXIF data does not say.

    From FocalLengthIn35mmFilm (CIPA DC-008, tag 0xA405), which compares fields of view along the diagonal
    (CIPA DCG-001), so that the image must show all of what was taken: resized ones fit, cropped ones do not.
    """
    try:
        equivalent_mm = float(exif_tags(path).get("FocalLengthIn35mmFilm", ""))
    except ValueError:
        return None
    if equivalent_mm <= 0:  # 0 stands for unknown
        return None
    return equivalent_mm / FILM_DIAGONAL_MM * math.hypot(width, height)
