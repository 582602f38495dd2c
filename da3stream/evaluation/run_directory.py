"""The poses that a run left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from da3stream.errors import FormatError
from da3stream.evaluation.pose_sequence import PoseSequence
from da3stream.evaluation.text_formats import check_rotations, read_kitti_4x4, read_tum
from da3stream.store import FinishedRun
from da3stream.store.numbered_names import numbered_in

_CAMERAS, _MANIFEST, _TUM, _POSES = "cameras.json", "run.json", "trajectory_tum.txt", "camera_poses.txt"


def is_run(folder: Path) -> bool:
    """Whether `folder` holds the poses of a run."""
    return any((folder / name).is_file() for name in (_CAMERAS, _MANIFEST, _TUM, _POSES))


def read_run(folder: Path) -> PoseSequence:
    """Read what the run has recorded. Without a run.json, read cameras.json, trajectory_tum.txt or
    camera_poses.txt.

    Poses from the first two know their image names, times and positions in the source, those from the third
    their times, those from the last only their order (this is also what DA3-Streaming leaves).

    Raises:
        FormatError: the file is malformed.
        RunIncompleteError: the run has not finished.
        RunCorruptError: what it has recorded is damaged.
    """
    if (folder / _MANIFEST).is_file():
        return _read_records(folder)
    if (folder / _CAMERAS).is_file():
        return _read_cameras(folder / _CAMERAS)
    if (folder / _TUM).is_file():
        return read_tum(folder / _TUM)
    return read_kitti_4x4(folder / _POSES)


def _read_cameras(path: Path) -> PoseSequence:
    try:
        cameras = json.loads(path.read_text(encoding="utf-8"))
        frames = cameras["frames"]
        poses = PoseSequence(
            world_from_cam=_column(frames, "world_from_cam", np.float64).reshape(len(frames), 4, 4),
            timestamp_s=_column(frames, "timestamp_s", np.float64),
            names=tuple(str(frame["name"]) for frame in frames),
            source_index=_column(frames, "source_index", np.int64),
            timestamps_are_synthetic=cameras.get("timestamps") == "synthetic",
            numbered_in=_text_or_none(cameras.get("numbered_in")),  # older files do not say it
            origin=str(path.parent),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path} is no list of cameras: {error!r}") from error
    if not len(poses):
        raise FormatError(f"{path} lists no camera")
    check_rotations(poses.world_from_cam, [f"{path}: frame {row}" for row in range(len(poses))])
    return poses


def _read_records(folder: Path) -> PoseSequence:
    run = FinishedRun(folder)
    tables = run.frame_tables()
    made_up = run.manifest["timestamps_are_synthetic"] and run.manifest["config"]["fps"] is None
    return PoseSequence(
        world_from_cam=run.trajectory_field("world_from_cam"),
        timestamp_s=run.trajectory_field("timestamp_s"),
        names=tuple(name for table in tables for name in table.names),
        source_index=np.concatenate([table.source_index for table in tables]),
        timestamps_are_synthetic=made_up,
        numbered_in=numbered_in(str(run.manifest["source"]), tables),
        origin=str(folder),
    )


def _text_or_none(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{value!r} is no text")


def _column(frames: list[dict[str, Any]], key: str, dtype: type) -> Any:
    return np.array([frame[key] for frame in frames], dtype=dtype)
