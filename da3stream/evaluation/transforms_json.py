"""transforms.json of instant-ngp and nerfstudio: camera to world with OpenGL axes (x right, y up, z
backward).

Format: https://docs.nerf.studio/quickstart/data_conventions.html.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from da3stream.errors import FormatError
from da3stream.evaluation.pose_sequence import PoseSequence
from da3stream.evaluation.text_formats import check_rotations

_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def read_transforms(path: Path) -> PoseSequence:
    """Read the poses, in order of file name.

    Raises:
        FormatError: not JSON, no frames, or a frame without a file name or a 4 x 4 rigid matrix.
    """
    frames = _frames(path)
    names = [_name(path, position, frame) for position, frame in enumerate(frames)]
    order = sorted(range(len(names)), key=names.__getitem__)
    poses = np.array([_matrix(path, names[i], frames[i]) for i in order])
    check_rotations(poses, [f"{path}: {names[i]}" for i in order])
    return PoseSequence(
        world_from_cam=poses @ _OPENGL_FROM_OPENCV, names=tuple(names[i] for i in order), origin=str(path)
    )


def _frames(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot read {path} as JSON: {error}") from error
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise FormatError(
            f"{path} has no list of frames", expected='{"frames": [{"file_path", "transform_matrix"}]}'
        )
    return frames


def _name(path: Path, position: int, frame: Any) -> str:
    name = frame.get("file_path") if isinstance(frame, dict) else None
    if not isinstance(name, str):
        raise FormatError(f"{path}: frame {position} has no file_path", got=repr(frame)[:80])
    return name.removeprefix("./")


def _matrix(path: Path, name: str, frame: dict[str, Any]) -> Any:
    try:
        matrix = np.array(frame.get("transform_matrix"), dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape not in ((4, 4), (3, 4)):
        raise FormatError(
            f"{path}: {name} has no valid transform_matrix", got=matrix.shape, expected="(4, 4) numbers"
        )
    return np.concatenate([matrix[:3], [[0.0, 0.0, 0.0, 1.0]]])
