"""Settings of ORB-SLAM3 (`Camera1.fx`) and of ORB-SLAM2 and early ORB-SLAM3 (`Camera.fx`), YAML of OpenCV.

OpenCV's pixels: the centre of the top-left one is (0, 0), so 0.5 is added to the principal point. `PinHole`
is radtan with k1, k2, p1, p2 and perhaps k3; `Rectified` has no distortion; `KannalaBrandt8` is equidistant.
The size is Camera.width and Camera.height; Camera.newWidth, to which ORB-SLAM3 resizes, does not count.

Format: Calibration_Tutorial.pdf of https://github.com/UZ-SLAMLab/ORB_SLAM3
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from da3stream.geometry.lens import Distortion
from da3stream.source.calibration.calibration import OPENCV_SHIFT_PX, Calibration
from da3stream.source.calibration.fields import CalibrationFile

NAME = "ORB-SLAM3 settings"
_MODELS = ("PinHole", "Rectified", "KannalaBrandt8")


def looks_like(fields: Mapping[str, Any]) -> bool:
    """Whether a field is one of a camera."""
    return any(name.startswith(("Camera.", "Camera1.", "Camera2.")) for name in fields)


def read(fields: Mapping[str, Any], path: str) -> Calibration:
    """The camera of such a file. FormatError says what is wrong with it."""
    file = CalibrationFile(path=path, format=NAME)
    if "Camera2.fx" in fields:
        file.fail_several(["Camera1", "Camera2"])
    prefix = "Camera1" if "Camera1.fx" in fields else "Camera"
    intrinsics = [file.number(fields, f"{prefix}.{name}") for name in ("fx", "fy", "cx", "cy")]
    has_size = "Camera.width" in fields or "Camera.height" in fields
    size = (
        file.size(file.number(fields, "Camera.width"), file.number(fields, "Camera.height"))
        if has_size
        else None
    )
    return file.calibration(intrinsics, _distortion(file, fields, prefix), size, OPENCV_SHIFT_PX)


def _distortion(file: CalibrationFile, fields: Mapping[str, Any], prefix: str) -> Distortion | None:
    model = str(fields.get("Camera.type", "PinHole"))
    if model not in _MODELS:
        file.fail("unknown Camera.type", got=model, expected=f"one of {', '.join(_MODELS)}")
    if model == "Rectified":
        return None
    if model == "KannalaBrandt8":
        names = ("k1", "k2", "k3", "k4")
        return file.distortion("equidistant", [file.number(fields, f"{prefix}.{name}") for name in names])
    if f"{prefix}.k1" not in fields:
        return None
    found = [file.number(fields, f"{prefix}.{name}") for name in ("k1", "k2", "p1", "p2")]
    k3 = file.number(fields, f"{prefix}.k3", 0.0)
    return file.distortion("radtan", [*found, k3] if k3 else found)
