"""transforms.json of nerfstudio and instant-ngp: `fl_x` and so on, or `camera_angle_x` in radians.

Pixel centres at 0.5, as here. What is missing: fl_y is fl_x, the principal point is the middle, distortion is
none. Cameras of single frames count if there is none for all of them.

Format: https://docs.nerf.studio/quickstart/data_conventions.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from da3stream.geometry.lens import Distortion
from da3stream.source.calibration.calibration import Calibration
from da3stream.source.calibration.fields import CalibrationFile

NAME = "transforms.json"
_PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE")
_MODELS = ("OPENCV", "OPENCV_FISHEYE", *_PINHOLES)


def looks_like(fields: Mapping[str, Any]) -> bool:
    """Whether there are frames or a focal length."""
    return bool({"frames", "fl_x", "camera_angle_x"} & set(fields))


def read(fields: Mapping[str, Any], path: str, input_size: tuple[int, int] | None) -> Calibration:
    """The camera of such a file; `input_size` is for those that say nothing but an angle.

    FormatError says what is wrong with it.
    """
    file = CalibrationFile(path=path, format=NAME)
    if _has_focal(fields):
        return _camera(file, fields, input_size)
    listed = fields.get("frames")
    frames = [frame for frame in listed if isinstance(frame, dict)] if isinstance(listed, list) else []
    if not frames or not all(_has_focal(frame) for frame in frames):
        file.fail("no focal length", expected="fl_x or camera_angle_x, for all frames")
    cameras = [_camera(file, {**fields, **frame}, input_size) for frame in frames]
    return file.only(cameras, [str(frame.get("file_path")) for frame in frames])


def _has_focal(fields: Mapping[str, Any]) -> bool:
    return "fl_x" in fields or "camera_angle_x" in fields


def _camera(
    file: CalibrationFile, fields: Mapping[str, Any], input_size: tuple[int, int] | None
) -> Calibration:
    size = (
        file.size(file.number(fields, "w"), file.number(fields, "h"))
        if "w" in fields or "h" in fields
        else None
    )
    if size is None and not {"fl_x", "cx", "cy"} <= set(fields):
        size = input_size
        if size is None:
            file.fail("w and h are missing", hint="Without them, fl_x, cx and cy must be given.")
    width, height = size or (0, 0)
    fx = file.number(fields, "fl_x") if "fl_x" in fields else _focal(file, fields, "camera_angle_x", width)
    if "fl_y" in fields or "camera_angle_y" not in fields or "fl_x" in fields:
        fy = file.number(fields, "fl_y", fx)
    else:
        fy = _focal(file, fields, "camera_angle_y", height)
    cx, cy = file.number(fields, "cx", width / 2), file.number(fields, "cy", height / 2)
    return file.calibration([fx, fy, cx, cy], _distortion(file, fields), size)


def _focal(file: CalibrationFile, fields: Mapping[str, Any], name: str, side_px: int) -> float:
    angle = file.number(fields, name)
    if not 0 < angle < math.pi:
        file.fail(f"{name} is no field of view", got=angle, expected="radians between 0 and pi")
    return side_px / 2 / math.tan(angle / 2)


def _distortion(file: CalibrationFile, fields: Mapping[str, Any]) -> Distortion | None:
    model = fields.get("camera_model", "OPENCV_FISHEYE" if fields.get("is_fisheye") else "OPENCV")
    if model not in _MODELS:
        file.fail("unknown camera_model", got=model, expected=f"one of {', '.join(_MODELS)}")
    if model in _PINHOLES:
        return None
    k1, k2, k3, k4, p1, p2 = (file.number(fields, name, 0.0) for name in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if model == "OPENCV_FISHEYE":
        return file.distortion("equidistant", [k1, k2, k3, k4])
    if k4:
        file.fail("k4 is for fisheye lenses only", got=k4)
    return file.distortion("radtan", [k1, k2, p1, p2, k3] if k3 else [k1, k2, p1, p2])
