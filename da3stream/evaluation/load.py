"""Recognises what a trajectory is stored as."""

from __future__ import annotations

from pathlib import Path

from da3stream.errors import FormatError, InputNotFoundError
from da3stream.evaluation.colmap_model import find_model, read_colmap
from da3stream.evaluation.pose_sequence import PoseSequence
from da3stream.evaluation.run_directory import is_run, read_run
from da3stream.evaluation.text_formats import count_columns, read_kitti, read_kitti_4x4, read_tum
from da3stream.evaluation.transforms_json import read_transforms

_EXPECTED = (
    "a TUM file (8 columns), a KITTI file (12 columns), transforms.json, a COLMAP model or a run directory"
)


def load_trajectory(path: str | Path) -> PoseSequence:
    """Read a trajectory in any of the formats that `evaluate` understands.

    Args:
        path: a TUM or KITTI text file, a transforms.json, a folder with a COLMAP model, or a run directory.
            A folder with a transforms.json stands for that file.

    Raises:
        InputNotFoundError: nothing is there.
        FormatError: the format is unknown, or the file is malformed; the message names file and line.
    """
    path = Path(path)
    if not path.exists():
        raise InputNotFoundError(f"there is no trajectory {path}", expected=_EXPECTED)
    return _load_folder(path) if path.is_dir() else _load_file(path)


def _load_folder(folder: Path) -> PoseSequence:
    if is_run(folder):
        return read_run(folder)
    if (folder / "transforms.json").is_file():
        return read_transforms(folder / "transforms.json")
    if find_model(folder):
        return read_colmap(folder)
    raise FormatError(f"the folder {folder} holds no trajectory", expected=_EXPECTED)


def _load_file(path: Path) -> PoseSequence:
    if path.suffix == ".json":
        return read_transforms(path)
    columns = count_columns(path)
    readers = {8: read_tum, 12: read_kitti, 16: read_kitti_4x4}
    if columns not in readers:
        raise FormatError(
            f"{path} is no trajectory", got=f"{columns} columns in its first line", expected=_EXPECTED
        )
    return readers[columns](path)
