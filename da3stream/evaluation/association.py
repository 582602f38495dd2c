"""Which pose of the estimate belongs to which pose of the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import InputError
from da3stream.evaluation.pose_sequence import PoseSequence

Method = Literal["names", "timestamps", "index"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Association:
    """Pairs of poses, in the order of the estimate. No pose occurs twice."""

    method: Method
    """What the pairs have in common: image names, times, or the position in the source."""
    estimate_rows: NDArray[np.intp]
    """(M,) rows of the estimate."""
    truth_rows: NDArray[np.intp]
    """(M,) rows of the truth."""

    def __len__(self) -> int:
        return len(self.estimate_rows)


def associate(
    estimate: PoseSequence, truth: PoseSequence, *, max_time_difference_s: float = 0.01
) -> Association:
    """Pair up two trajectories.

    By image names where both sides have them and some agree (numbers of frames of two videos do not count:
    every video has a frame 0); else by times where both have times that are not made up; else by position:
    row i of the truth is frame i of the source (KITTI). By position only if both sides are numbered, or mere
    lists, or have the same number of poses without gaps.

    Args:
        estimate: one side.
        truth: the other.
        max_time_difference_s: largest difference of two times that count as the same moment.

    Raises:
        InputError: nothing fits together.
    """
    are_of_two_videos = _are_of_two_videos(estimate, truth)
    if estimate.names is not None and truth.names is not None and not are_of_two_videos:
        by_name = _by_names(estimate.names, truth.names)
        if len(by_name):
            return by_name
    estimate_s, truth_s = _true_times(estimate), _true_times(truth)
    if estimate_s is not None and truth_s is not None:
        by_time = _by_timestamps(estimate_s, truth_s, max_time_difference_s)
        if not len(by_time):
            raise _no_common_time(estimate, truth, max_time_difference_s)
        return by_time
    if are_of_two_videos:
        raise _only_numbered(estimate, truth)
    if estimate.names is not None and truth.names is not None:
        raise InputError(
            "no image name occurs in both trajectories",
            got=f"{estimate.names[0]!r}, ... and {truth.names[0]!r}, ...",
            hint="Are both of the same images? Times that are made up from frame numbers do not count.",
        )
    if not (_is_numbered(estimate) and _is_numbered(truth)) and _positions(estimate) != _positions(truth):
        raise _nothing_in_common(estimate, truth)
    return _by_position(estimate, truth)


def _are_of_two_videos(estimate: PoseSequence, truth: PoseSequence) -> bool:
    """Whether all that both sides have for names are numbers of the frames of different videos."""
    videos = estimate.numbered_in, truth.numbered_in
    return None not in videos and videos[0] != videos[1]


def _true_times(poses: PoseSequence) -> NDArray[np.float64] | None:
    """(N,) seconds; None if there are none, or they are made up from frame numbers."""
    return None if poses.timestamps_are_synthetic else poses.timestamp_s


def _is_numbered(poses: PoseSequence) -> bool:
    """Whether positions in the source are known, or nothing but the order is (KITTI: line i is frame i)."""
    return poses.source_index is not None or (poses.names is None and poses.timestamp_s is None)


def _by_names(estimate: tuple[str, ...], truth: tuple[str, ...]) -> Association:
    """Equal paths; or else equal file names; or else equal file names without suffix."""
    spellings: tuple[Callable[[str], str], ...] = (
        str,
        lambda name: PurePosixPath(name).name,
        lambda name: PurePosixPath(name).stem,
    )
    found = _matches("names", (), ())
    for spelling in spellings:
        found = _equal_keys(
            "names", [spelling(name) for name in estimate], [spelling(name) for name in truth]
        )
        if len(found):
            break
    return found


def _by_timestamps(estimate: NDArray[Any], truth: NDArray[Any], tolerance: float) -> Association:
    """Pairs each of which is the nearest to the other, and near enough."""
    truth_of_estimate, estimate_of_truth = _nearest(estimate, truth), _nearest(truth, estimate)
    rows = np.arange(len(estimate))
    mutual = estimate_of_truth[truth_of_estimate] == rows
    # Times of around 1e9 s in float64 are good to 1e-7 s: what is nominally the tolerance counts.
    near = np.abs(truth[truth_of_estimate] - estimate) <= tolerance + 1e-6
    kept = rows[mutual & near]
    return _matches("timestamps", kept, truth_of_estimate[kept])


def _nearest(times: NDArray[Any], others: NDArray[Any]) -> NDArray[np.intp]:
    """(N,) row of the nearest of `others` (ascending) for each of `times`; the earlier one of two."""
    after = np.clip(np.searchsorted(others, times), 1, max(len(others) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(others) - 1)
    return np.where(times - others[before] <= others[after] - times, before, after)


def _by_position(estimate: PoseSequence, truth: PoseSequence) -> Association:
    found = _equal_keys("index", _positions(estimate), _positions(truth))
    if not len(found):
        raise InputError(
            "the two trajectories have no frame in common",
            got=f"frames {_span(_positions(estimate))} and {_span(_positions(truth))}",
        )
    return found


def _positions(poses: PoseSequence) -> list[int]:
    return list(range(len(poses))) if poses.source_index is None else [int(i) for i in poses.source_index]


def _equal_keys(method: Method, estimate: list[Any], truth: list[Any]) -> Association:
    """Pairs of equal keys; none at all if a key is ambiguous on one side."""
    row_of = {key: row for row, key in enumerate(truth)}
    if len(row_of) < len(truth) or len(set(estimate)) < len(estimate):
        return _matches(method, (), ())
    rows = [(row, row_of[key]) for row, key in enumerate(estimate) if key in row_of]
    return _matches(method, [a for a, _ in rows], [b for _, b in rows])


def _matches(method: Method, estimate_rows: Any, truth_rows: Any) -> Association:
    return Association(
        method=method,
        estimate_rows=np.array(estimate_rows, dtype=np.intp),
        truth_rows=np.array(truth_rows, dtype=np.intp),
    )


def _span(values: Any) -> str:
    return f"{values[0]} to {values[-1]}"


def _no_common_time(estimate: PoseSequence, truth: PoseSequence, tolerance: float) -> InputError:
    return InputError(
        f"no pose of the estimate lies within {tolerance:g} s of one of the truth",
        got=f"times {_span(estimate.timestamp_s)} s and {_span(truth.timestamp_s)} s",
        hint="Both sides need the same clock; --max-time-difference bridges different frame rates.",
    )


def _nothing_in_common(estimate: PoseSequence, truth: PoseSequence) -> InputError:
    return InputError(
        "nothing says which poses of the two trajectories belong together",
        got=f"{_described(estimate)} and {_described(truth)}",
        expected="image names or times of one clock on both sides",
        hint="Name the run directory rather than a file in it, or give the truth as a KITTI file with a line "
        "for every frame of the source.",
    )


def _only_numbered(estimate: PoseSequence, truth: PoseSequence) -> InputError:
    return InputError(
        "these are frames of two videos that are only numbered, so nothing says which ones belong together",
        got=f"{_described(estimate)} and {_described(truth)}",
        expected="runs of one video, or times from both videos",
        hint="Extract the images of the video into a folder, and run both on that.",
    )


def _described(poses: PoseSequence) -> str:
    """How many poses there are, and what is known of them."""
    times = "made-up times" if poses.timestamps_are_synthetic else "times"
    known = {"names": poses.names, times: poses.timestamp_s}
    words = " and ".join(name for name, values in known.items() if values is not None)
    return f"{len(poses)} poses with {words or 'their order only'}"
