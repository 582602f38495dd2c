"""COLMAP's cameras.txt: a line a camera, `CAMERA_ID MODEL WIDTH HEIGHT PARAMS...`.

Pixel centres at 0.5, as here. Format: https://colmap.github.io/format.html and .../cameras.html
"""

from __future__ import annotations

import re

from da3stream.source.calibration.calibration import Calibration
from da3stream.source.calibration.fields import CalibrationFile

NAME = "COLMAP cameras.txt"
_MODELS = {
    "SIMPLE_PINHOLE": ("f cx cy", None),
    "PINHOLE": ("fx fy cx cy", None),
    "SIMPLE_RADIAL": ("f cx cy k1", "radtan"),
    "RADIAL": ("f cx cy k1 k2", "radtan"),
    "OPENCV": ("fx fy cx cy k1 k2 p1 p2", "radtan"),
    "SIMPLE_RADIAL_FISHEYE": ("f cx cy k1", "equidistant"),
    "RADIAL_FISHEYE": ("f cx cy k1 k2", "equidistant"),
    "OPENCV_FISHEYE": ("fx fy cx cy k1 k2 k3 k4", "equidistant"),
}
"""Names of the parameters, and the model of distortion that they are of."""


def looks_like(text: str) -> bool:
    """Whether the first line that is no comment begins with a number and the name of a model."""
    return bool(_lines(text)) and re.match(r"\d+\s+[A-Za-z_]", _lines(text)[0]) is not None


def read(text: str, path: str) -> Calibration:
    """The camera of such a file. FormatError says what is wrong with it."""
    file = CalibrationFile(path=path, format=NAME)
    rows = [line.split() for line in _lines(text)]
    cameras = [_camera(file, row) for row in rows]
    return file.only(cameras, [f"camera {row[0]}" for row in rows])


def _camera(file: CalibrationFile, row: list[str]) -> Calibration:
    if len(row) < 4:
        file.fail("a line is cut short", got=" ".join(row), expected="CAMERA_ID MODEL WIDTH HEIGHT PARAMS...")
    if row[1] not in _MODELS:
        file.fail("unknown camera model", got=row[1], expected=f"one of {', '.join(_MODELS)}")
    names, model = _MODELS[row[1]][0].split(), _MODELS[row[1]][1]
    if len(row) != 4 + len(names):
        file.fail(f"{row[1]} has the parameters {', '.join(names)}", got=f"{len(row) - 4} numbers")
    found = {name: file.as_number(value, name) for name, value in zip(names, row[4:], strict=True)}
    focal = found.get("f", 0.0)
    intrinsics = [found.get("fx", focal), found.get("fy", focal), found["cx"], found["cy"]]
    last = ("p1", "p2") if model == "radtan" else ("k3", "k4")
    coefficients = [found.get(name, 0.0) for name in ("k1", "k2", *last)]
    distortion = None if model is None else file.distortion(model, coefficients)
    return file.calibration(intrinsics, distortion, file.size(row[2], row[3]))


def _lines(text: str) -> list[str]:
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]
