"""Camera poses that the user knows, and which of them belongs to a frame."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.config import KnownConfig
from da3stream.errors import FormatError, InputError
from da3stream.evaluation import PoseSequence, load_trajectory
from da3stream.geometry import rigid3
from da3stream.scene import Frame

Array = NDArray[np.float64]

SAME_MOMENT_S = 1e-3
"""A pose at most so far in time from a frame is the frame's own: files round their times."""
LONGEST_GAP_S = 0.25
"""Between two poses that are further apart in time nothing is interpolated: who knows what was there."""
NEAR_PRIOR_S = LONGEST_GAP_S / 2
LONGEST_PRIOR_GAP_S = 2.0
"""A prior may err: beside a pose it is interpolated over so long a gap (GPS once a second)."""


class FrameKeys(Protocol):
    """What a pose is looked up by: of a `Frame`, or of an image that is listed but not read yet."""

    @property
    def name(self) -> str | None:
        """File name."""
        ...

    @property
    def source_index(self) -> int:
        """Position in the source."""
        ...

    @property
    def timestamp_s(self) -> float:
        """Seconds."""
        ...


class KnownPoses:
    """Known poses, looked up frame by frame.

    By image name if the poses have names; else by time if they have times; else row i is position i in the
    source (KITTI). A frame between two poses in time gets the one in between, of a motion at constant speed.
    """

    def __init__(self, poses: PoseSequence, *, offset_s: float = 0.0, exact_times: bool = False) -> None:
        """
        Args:
            poses: camera to world.
            offset_s: what is added to the time of a frame to get the clock of the poses.
            exact_times: the frames' times are made up, so that only equal ones mean anything.

        Raises:
            FormatError: two poses have the same file name.
        """
        self._poses, self._offset_s, self._exact_times = poses, offset_s, exact_times
        self._world_from_cam = poses.world_from_cam.copy()
        self._world_from_cam[:, :3, :3] = rigid3.nearest_rotation(poses.world_from_cam[:, :3, :3])
        self._row_of = None if poses.names is None else _rows_by_name(poses.names, poses.origin)

    @classmethod
    def load(cls, path: str | Path, config: KnownConfig, *, exact_times: bool = False) -> KnownPoses:
        """Read a file or folder that `load_trajectory` understands. Raises what it raises."""
        return cls(load_trajectory(path), offset_s=config.pose_offset, exact_times=exact_times)

    def identity(self) -> str:
        """A string that is equal for poses that give the same frames the same poses."""
        digest = hashlib.sha256(np.ascontiguousarray(self._world_from_cam).tobytes())
        times = self._poses.timestamp_s
        keys = (self._poses.names, None if times is None else times.tolist(), self._offset_s)
        digest.update(repr(keys).encode())
        return digest.hexdigest()[:32]

    @property
    def is_metric_by_custom(self) -> bool:
        """Whether files of this kind are in metres by custom: those without image names, TUM and KITTI."""
        return self._row_of is None

    def __len__(self) -> int:
        return len(self._poses)

    @property
    def origin(self) -> str:
        """Where they come from, for messages."""
        return self._poses.origin

    @property
    def have_times(self) -> bool:
        """Whether they are looked up by time."""
        return self._row_of is None and self._poses.timestamp_s is not None

    def prior_of(self, frame: FrameKeys) -> Array | None:
        """(4, 4) camera to world of a frame as far as a prior has to be right; None if it has none."""
        if self._row_of is not None:
            row = self._named_row(self._row_of, frame)
            return None if row is None else self._world_from_cam[row]
        if self._poses.timestamp_s is None:
            is_there = frame.source_index < len(self._poses)
            return self._world_from_cam[frame.source_index] if is_there else None
        time_s = frame.timestamp_s + self._offset_s
        times_s = self._poses.timestamp_s
        is_near = np.abs(times_s[self._nearest(times_s, time_s)] - time_s) <= NEAR_PRIOR_S
        return self._at(times_s, time_s, longest_gap_s=LONGEST_PRIOR_GAP_S if is_near else LONGEST_GAP_S)

    def may_have_later_priors(self, frame: FrameKeys, latest_s: float) -> bool:
        """Whether frames behind this one may have a prior, in a source that ends before a time (of frames).

        Of a source that gives names to its frames nobody knows.
        """
        if self._row_of is not None:
            numbers = [int(key) for key in self._row_of if key.isdecimal()]
            return frame.name is not None or max(numbers, default=-1) > frame.source_index
        times_s = self._poses.timestamp_s
        if times_s is None:
            return frame.source_index + 1 < len(self._poses)
        start_s, stop_s = frame.timestamp_s + self._offset_s, latest_s + self._offset_s
        return bool(start_s < times_s[-1] + NEAR_PRIOR_S and stop_s > times_s[0] - NEAR_PRIOR_S)

    def in_words(self) -> str:
        """Which poses there are."""
        times_s = self._poses.timestamp_s
        if self._row_of is not None:
            return f"poses of {_list(list(self._row_of))}"
        if times_s is not None:
            return f"{len(times_s)} poses from {times_s[0]:.6f} to {times_s[-1]:.6f} s"
        return f"{len(self._poses)} poses, from frame 0 on"

    def frame_in_words(self, frame: FrameKeys) -> str:
        """A frame by what its pose is looked up by."""
        if self._row_of is not None:
            return f"image {_name(frame)}"
        if self._poses.timestamp_s is None:
            return f"frame {frame.source_index} of the source"
        made_up = " (made up from the frame number: give --fps)" if self._exact_times else ""
        return f"frame {frame.source_index} at {frame.timestamp_s + self._offset_s:.6f} s{made_up}"

    def of(self, frame: Frame) -> Array:
        """(4, 4) camera to world of a frame.

        Raises:
            InputError: it has none.
        """
        if self._row_of is not None:
            return self._by_name(self._row_of, frame)
        if self._poses.timestamp_s is not None:
            return self._by_time(self._poses.timestamp_s, frame)
        return self._by_position(frame)

    def _by_name(self, row_of: dict[str, int], frame: Frame) -> Array:
        row = self._named_row(row_of, frame)
        if row is None:
            raise self._missing(frame)
        return self._world_from_cam[row]

    def _named_row(self, row_of: dict[str, int], frame: FrameKeys) -> int | None:
        return row_of.get(_name(frame), row_of.get(PurePosixPath(_name(frame)).stem))

    def _by_position(self, frame: Frame) -> Array:
        if frame.source_index >= len(self._poses):
            raise self._missing(frame)
        return self._world_from_cam[frame.source_index]

    def _by_time(self, times_s: Array, frame: Frame) -> Array:
        pose = self._at(times_s, frame.timestamp_s + self._offset_s, longest_gap_s=LONGEST_GAP_S)
        if pose is None:
            raise self._missing(
                frame,
                expected=f"one at this time, or two around it at most {LONGEST_GAP_S:g} s apart",
                hint="--pose-offset is added to the times of frames. --start and --end leave frames out.",
            )
        return pose

    def _at(self, times_s: Array, time_s: float, longest_gap_s: float) -> Array | None:
        """The pose at a moment of the poses' clock, None if nothing is known of it."""
        near, after = self._nearest(times_s, time_s), int(np.searchsorted(times_s, time_s))
        # Times of around 1e9 s in float64 are good to 1e-7 s.
        if abs(times_s[near] - time_s) <= SAME_MOMENT_S + 1e-6:
            return self._world_from_cam[near]
        inside = 0 < after < len(times_s)
        if self._exact_times or not inside or times_s[after] - times_s[after - 1] > longest_gap_s:
            return None
        share = (time_s - times_s[after - 1]) / (times_s[after] - times_s[after - 1])
        return _between(self._world_from_cam[after - 1], self._world_from_cam[after], float(share))

    def _nearest(self, times_s: Array, time_s: float) -> int:
        after = int(np.searchsorted(times_s, time_s))
        return min(
            (row for row in (after - 1, after) if 0 <= row < len(times_s)),
            key=lambda row: abs(times_s[row] - time_s),
        )

    def _missing(
        self, frame: FrameKeys, *, expected: str | None = None, hint: str | None = None
    ) -> InputError:
        return InputError(
            f"{self.origin} has no pose for {self.frame_in_words(frame)}",
            got=self.in_words(),
            expected=expected,
            hint=hint or "Leave out frames without a pose with --start, --end and --every.",
        )


def _name(frame: FrameKeys) -> str:
    return frame.name or f"{frame.source_index:06d}.jpg"


def _between(first: Array, second: Array, share: float) -> Array:
    """(4, 4) pose at a share of the way: straight, turning about one axis."""
    turn = Rotation.from_matrix(first[:3, :3].T @ second[:3, :3]).as_rotvec()
    pose = np.eye(4)
    pose[:3, :3] = first[:3, :3] @ Rotation.from_rotvec(share * turn).as_matrix()
    pose[:3, 3] = (1 - share) * first[:3, 3] + share * second[:3, 3]
    return pose


def _rows_by_name(names: tuple[str, ...], origin: str) -> dict[str, int]:
    """Row of every file name, with and without its suffix. Folders before the names do not count."""
    rows: dict[str, int] = {}
    paths = [PurePosixPath(name) for name in names]
    for keys in ([path.name for path in paths], [path.stem for path in paths]):
        if len(set(keys)) == len(keys):
            rows.update({key: row for row, key in enumerate(keys)} | rows)
    if not rows:
        raise FormatError(
            f"{origin} has several poses for one file name",
            got=_list(sorted(names)),
            expected="file names that differ, without their folders",
        )
    return rows


def _list(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
