"""KITTI's calib.txt of an odometry sequence: a 3x4 projection matrix a line, row by row, after `P0:` or bare.

The matrices are those of four rectified cameras (readme.txt of the odometry devkit): the left 3x3 part is the
camera, the last column says how far it is from the first one. Rectified images have no distortion. Lines of
other names (`Tr:`, the laser scanner) are passed over. Pixels are OpenCV's, as in a K.txt.
"""

from __future__ import annotations

import re

from da3stream.source.calibration.calibration import OPENCV_SHIFT_PX, Calibration
from da3stream.source.calibration.fields import CalibrationFile

NAME = "KITTI calib.txt"
_CAMERA = re.compile(r"P\d*:")


def looks_like(text: str) -> bool:
    """Whether the file begins with the matrix of a camera."""
    first = next(iter(_lines(text)), [])
    return len(first) == 12 or (len(first) > 0 and _CAMERA.fullmatch(first[0]) is not None)


def read(text: str, path: str) -> Calibration:
    """The camera of such a file, if all of them are the same. FormatError says what is wrong with it."""
    file = CalibrationFile(path=path, format=NAME)
    lines = [line if line[0].endswith(":") else [f"P{row}:", *line] for row, line in enumerate(_lines(text))]
    cameras = {line[0][:-1]: line[1:] for line in lines if _CAMERA.fullmatch(line[0])}
    return file.only([_of_matrix(file, name, entries) for name, entries in cameras.items()], list(cameras))


def _of_matrix(file: CalibrationFile, name: str, parts: list[str]) -> Calibration:
    if len(parts) != 12:
        file.fail(f"{name} is no projection matrix", got=f"{len(parts)} numbers", expected="12")
    entries = [file.as_number(part, f"a value of {name}") for part in parts]
    fx, skew, cx, _, below, fy, cy, _, *last = entries
    if last[:3] != [0.0, 0.0, 1.0] or below != 0.0 or skew != 0.0:
        file.fail(
            f"{name} is no camera of rectified images", got=entries, expected="fx 0 cx t 0 fy cy t 0 0 1 t"
        )
    return file.calibration([fx, fy, cx, cy], None, None, OPENCV_SHIFT_PX)


def _lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]
