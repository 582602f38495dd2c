"""K.txt: a 3x3 matrix, or `fx fy cx cy [k1 k2 p1 p2]`; spaces, commas, brackets and `#` comments are fine.

OpenCV's pixels: the centre of the top-left one is (0, 0), so 0.5 is added to the principal point. There is no
size: the numbers are in pixels of the input.
"""

from __future__ import annotations

import re

from da3stream.source.calibration.calibration import OPENCV_SHIFT_PX, Calibration
from da3stream.source.calibration.fields import CalibrationFile

NAME = "K.txt"


def looks_like(text: str) -> bool:
    """Whether the file begins with a number."""
    rows = _rows(text)
    return bool(rows) and re.match(r"[-+.]?[\d.]", rows[0][0]) is not None


def read(text: str, path: str) -> Calibration:
    """The camera of such a file. FormatError says what is wrong with it."""
    file = CalibrationFile(path=path, format=NAME)
    rows = [
        [file.as_number(part, f"a value in row {n}") for part in row] for n, row in enumerate(_rows(text), 1)
    ]
    if [len(row) for row in rows] in ([3, 3, 3], [9]):
        return _of_matrix(file, [entry for row in rows for entry in row])
    if any(len(row) not in (4, 8) for row in rows):
        file.fail(
            "it is no camera",
            got=f"rows of {', '.join(str(len(row)) for row in rows[:6])} numbers",
            expected="a 3x3 matrix or fx fy cx cy [k1 k2 p1 p2]",
        )
    cameras = [_of_row(file, row) for row in rows]
    return file.only(cameras, [f"row {number}" for number in range(1, len(rows) + 1)])


def _of_matrix(file: CalibrationFile, entries: list[float]) -> Calibration:
    fx, skew, cx, below, fy, cy, *last = entries
    if last != [0.0, 0.0, 1.0] or below != 0.0:
        file.fail("the matrix is no camera matrix", got=entries, expected="fx 0 cx / 0 fy cy / 0 0 1")
    if skew != 0.0:
        file.fail("the matrix has skew", got=skew, expected="0: pixels are rectangular")
    return file.calibration([fx, fy, cx, cy], None, None, OPENCV_SHIFT_PX)


def _of_row(file: CalibrationFile, row: list[float]) -> Calibration:
    distortion = file.distortion("radtan", row[4:]) if len(row) == 8 else None
    return file.calibration(row[:4], distortion, None, OPENCV_SHIFT_PX)


def _rows(text: str) -> list[list[str]]:
    lines = (re.sub(r"[\[\],;]", " ", line.partition("#")[0]).split() for line in text.splitlines())
    return [line for line in lines if line]
