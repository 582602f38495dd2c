"""JSON with a vertical field of view in degrees, as Unity's Camera.fieldOfView is, and the size of the image.

Names count without case, `_`, `-` and spaces. Field of view: fieldOfView, fov, verticalFov, vfov, fovY or
verticalFieldOfView. Size: width and height, also as imageWidth, pixelWidth, screenWidth, w (and so on for
the height), or resolution, imageSize or size as [width, height], {"x", "y"} or {"width", "height"}.
Everything may lie in one object called camera. Pixels are square, the principal point is the middle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from da3stream.source.calibration.calibration import Calibration
from da3stream.source.calibration.fields import CalibrationFile

NAME = "JSON with a field of view"
_FIELDS_OF_VIEW = ("fieldofview", "fov", "verticalfov", "vfov", "fovy", "verticalfieldofview")
_WIDTHS = ("width", "imagewidth", "pixelwidth", "screenwidth", "w", "x")
_HEIGHTS = ("height", "imageheight", "pixelheight", "screenheight", "h", "y")
_SIZES = ("resolution", "imagesize", "size")


def looks_like(fields: Mapping[str, Any]) -> bool:
    """Whether there is a field of view."""
    return _first(_flat(fields), _FIELDS_OF_VIEW) is not None


def read(fields: Mapping[str, Any], path: str) -> Calibration:
    """The camera of such a file. FormatError says what is wrong with it."""
    file = CalibrationFile(path=path, format=NAME)
    flat = _flat(fields)
    angle_deg = file.as_number(_first(flat, _FIELDS_OF_VIEW), "the field of view")
    if not 0 < angle_deg < 180:
        file.fail("the vertical field of view is impossible", got=angle_deg, expected="0 to 180 degrees")
    width, height = _size(file, flat)
    focal = height / 2 / math.tan(math.radians(angle_deg) / 2)
    return file.calibration([focal, focal, width / 2, height / 2], None, (width, height))


def _size(file: CalibrationFile, flat: Mapping[str, Any]) -> tuple[int, int]:
    size = _first(flat, _SIZES)
    if isinstance(size, list) and len(size) == 2:
        return file.size(*size)
    sides = _flat(size) if isinstance(size, dict) else flat
    width, height = _first(sides, _WIDTHS), _first(sides, _HEIGHTS)
    if width is None or height is None:
        file.fail("the size of the image is missing", expected="width and height in pixels")
    return file.size(width, height)


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by their plain names; those of an object `camera` too."""
    plain = {re.sub(r"[_\-\s]", "", name).lower(): value for name, value in fields.items()}
    nested = plain.get("camera")
    return {**plain, **_flat(nested)} if isinstance(nested, dict) else plain


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((fields[name] for name in names if name in fields), None)
