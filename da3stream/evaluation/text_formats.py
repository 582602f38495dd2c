"""TUM and KITTI trajectory files.

Formats: https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats and the development kit of
https://www.cvlibs.net/datasets/kitti/eval_odometry.php.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import FormatError
from da3stream.evaluation.pose_sequence import PoseSequence
from da3stream.geometry.rigid3 import rotation_from_quaternion_wxyz, to_4x4

Array = NDArray[np.float64]

_TUM_COLUMNS = 8
_NORM_TOLERANCE = 1e-2
_ROTATION_TOLERANCE = 1e-3


def count_columns(path: Path) -> int:
    """Number of columns of the first line that holds numbers; 0 if there is none."""
    for _, line in _lines(path):
        return len(line.replace(",", " ").split())
    return 0


def read_tum(path: Path) -> PoseSequence:
    """Read lines of `timestamp tx ty tz qx qy qz qw`, camera to world; `#` starts a comment.

    Raises:
        FormatError: a line has other than eight columns, holds something that is not a finite number, a
            quaternion whose length is not 1, or a time that does not come after the one before.
    """
    table, line_numbers = _read_table(path, _TUM_COLUMNS, "timestamp tx ty tz qx qy qz qw")
    timestamps, quaternions = table[:, 0], table[:, 4:]
    norms = np.linalg.norm(quaternions, axis=1)
    for row in np.flatnonzero(np.abs(norms - 1) > _NORM_TOLERANCE)[:1]:
        raise FormatError(
            f"{path}:{line_numbers[row]}: not a unit quaternion",
            got=f"length {norms[row]:.4f}",
            expected="1",
            hint="The columns are timestamp tx ty tz qx qy qz qw.",
        )
    for row in np.flatnonzero(np.diff(timestamps) <= 0)[:1]:
        raise FormatError(
            f"{path}:{line_numbers[row + 1]}: timestamps are not ascending",
            got=f"{timestamps[row + 1]:.6f} after {timestamps[row]:.6f}",
        )
    poses = np.tile(np.eye(4), (len(table), 1, 1))
    poses[:, :3, :3] = rotation_from_quaternion_wxyz(quaternions[:, [3, 0, 1, 2]])
    poses[:, :3, 3] = table[:, 1:4]
    return PoseSequence(world_from_cam=poses, timestamp_s=timestamps, origin=str(path))


def read_kitti(path: Path) -> PoseSequence:
    """Read lines of twelve numbers, the rows of the 3 x 4 matrix camera to world. Line i is frame i.

    Raises:
        FormatError: a line has other than twelve columns, holds something that is not a finite number, or no
            rotation.
    """
    return _read_matrices(path, rows=3)


def read_kitti_4x4(path: Path) -> PoseSequence:
    """The same with sixteen numbers a line: the last row, 0 0 0 1, is there too (camera_poses.txt)."""
    return _read_matrices(path, rows=4)


def _read_matrices(path: Path, rows: int) -> PoseSequence:
    table, line_numbers = _read_table(path, 4 * rows, f"the rows of a {rows} x 4 matrix, camera to world")
    poses = to_4x4(table.reshape(-1, rows, 4)[:, :3])
    check_rotations(poses, [f"{path}:{number}" for number in line_numbers])
    return PoseSequence(world_from_cam=poses, origin=str(path))


def check_rotations(poses: Array, places: list[str]) -> None:
    """Raise FormatError naming the place of the first pose (N, 4, 4) whose rotation is not one."""
    rotations = poses[:, :3, :3]
    with np.errstate(invalid="ignore"):
        deviation = np.abs(rotations @ np.swapaxes(rotations, 1, 2) - np.eye(3)).max((1, 2))
        bad = ~((deviation < _ROTATION_TOLERANCE) & (np.linalg.det(rotations) > 0))
    for row in np.flatnonzero(bad | ~np.isfinite(poses).all((1, 2)))[:1]:
        raise FormatError(
            f"{places[row]}: the matrix holds no rotation",
            got=f"a deviation of {deviation[row]:.2g} from orthonormal",
            expected="three orthonormal columns with determinant 1, all numbers finite",
        )


def _lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines that hold something, without comments."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is no trajectory: it holds no text") from error
    except OSError as error:
        raise FormatError(f"cannot read the trajectory {path}: {error.strerror}") from error
    stripped = ((number, line.split("#", 1)[0].strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in stripped if line]


def _read_table(path: Path, columns: int, layout: str) -> tuple[Array, list[int]]:
    """(N, columns) numbers, and the line number of each row."""
    lines = _lines(path)
    if not lines:
        raise FormatError(f"{path} holds no pose", expected=f"lines of {layout}")
    return np.array([_numbers(path, number, line, columns, layout) for number, line in lines]), [
        n for n, _ in lines
    ]


def _numbers(path: Path, number: int, line: str, columns: int, layout: str) -> list[float]:
    words = line.replace(",", " ").split()
    if len(words) != columns:
        raise FormatError(
            f"{path}:{number}: wrong number of columns", got=len(words), expected=f"{columns}: {layout}"
        )
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise FormatError(f"{path}:{number}: not a number", got=repr(line), expected=layout) from error
    if not np.isfinite(values).all():
        raise FormatError(f"{path}:{number}: not a finite number", got=repr(line), expected=layout)
    return values
