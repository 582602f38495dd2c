"""Camchain of Kalibr, which OpenVINS reads too: `cam0:` with camera_model, intrinsics and so on.

OpenCV's pixels: the centre of the top-left one is (0, 0), so 0.5 is added to the principal point.
Format: https://github.com/ethz-asl/kalibr/wiki/yaml-formats
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from da3stream.source.calibration.calibration import OPENCV_SHIFT_PX, Calibration
from da3stream.source.calibration.fields import CalibrationFile

NAME = "Kalibr camchain"
_DISTORTIONS = ("radtan", "equidistant", "none")


def looks_like(fields: Mapping[str, Any]) -> bool:
    """Whether there is a camera."""
    return bool(_cameras(fields))


def read(fields: Mapping[str, Any], path: str) -> Calibration:
    """The camera of such a file. FormatError says what is wrong with it."""
    file = CalibrationFile(path=path, format=NAME)
    names = _cameras(fields)
    if len(names) > 1:
        file.fail_several(names)
    camera = fields[names[0]]
    if not isinstance(camera, dict):
        file.fail(f"{names[0]} holds no fields", got=repr(camera)[:80])
    if (model := camera.get("camera_model")) != "pinhole":
        file.fail("unknown camera_model", got=model or "none", expected="pinhole")
    distortion_model = camera.get("distortion_model", "none")
    if distortion_model not in _DISTORTIONS:
        file.fail(
            "unknown distortion_model", got=distortion_model, expected=f"one of {', '.join(_DISTORTIONS)}"
        )
    distortion = None
    if distortion_model != "none":
        distortion = file.distortion(distortion_model, file.numbers(camera, "distortion_coeffs", 4))
    size = file.size(*file.numbers(camera, "resolution", 2)) if "resolution" in camera else None
    return file.calibration(file.numbers(camera, "intrinsics", 4), distortion, size, OPENCV_SHIFT_PX)


def _cameras(fields: Mapping[str, Any]) -> list[str]:
    return [name for name in fields if re.fullmatch(r"cam\d+", name)]
