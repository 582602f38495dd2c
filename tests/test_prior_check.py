"""When it is certain that no frame will have a prior, and when it is not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from da3stream import Frame
from da3stream.errors import InputError
from da3stream.evaluation import PoseSequence
from da3stream.known_poses import KnownPoses
from da3stream.prior_check import LONGEST_WAIT_S, PriorWatch


def poses(count: int = 5, **keys: Any) -> KnownPoses:
    return KnownPoses(PoseSequence(world_from_cam=np.tile(np.eye(4), (count, 1, 1)), **keys))


def at(start_s: float) -> KnownPoses:
    return poses(timestamp_s=start_s + np.arange(5.0))


def frame(index: int, known: KnownPoses, first: int = 0, name: str | None = None) -> Frame:
    """Ten frames a second, from a frame of the source on."""
    image, number = np.zeros((14, 14, 3), np.uint8), first + index
    bare = Frame(index=index, source_index=number, timestamp_s=number / 10, image=image, name=name)
    prior = known.prior_of(bare)
    return Frame(
        index=index, source_index=number, timestamp_s=number / 10, image=image, name=name, pose_prior=prior
    )


def ends_at(known: KnownPoses, total: int | None, **named: Any) -> int | None:
    """The frame after which a watch of chunks of ten gives up; None if it never does."""
    watch = PriorWatch(known, total)
    for start, stop in pairwise(range(0, 61, 10)):
        try:
            watch.check([frame(index, known, **named) for index in range(start, stop)])
        except InputError:
            return stop - 1
    return None


@pytest.mark.parametrize(
    ("start_s", "total", "end"),
    [
        (0.0, 100, None),
        (3.0, 100, None),  # a GPS that searches for satellites
        (15.0, 100, 59),  # 10 s at the rate of the beginning, but rates vary
        (25.0, 100, 9),
        (1e9, 100, 9),
        (-4.5, 100, 9),  # the last pose is at -0.5 s
        (-1e9, 100, 9),
        (25.0, None, None),
        (LONGEST_WAIT_S + 10, None, 9),
    ],
)
def test_times_are_waited_for_as_long_as_the_source_may_reach_them(
    start_s: float, total: int | None, end: int | None
) -> None:
    known = at(start_s)
    assert ends_at(known, total) == end


def test_once_a_frame_had_a_prior_nothing_is_watched() -> None:
    assert ends_at(at(-3.9), 100) is None  # one frame, at 0.1 s


def test_lines_end_where_the_file_does() -> None:
    assert ends_at(poses(), None) is None
    assert ends_at(poses(), None, first=5) == 9
    assert ends_at(poses(), 100, first=300) == 9


def test_frames_of_a_video_have_names_by_their_number() -> None:
    names = tuple(f"{number:06d}.png" for number in range(30, 35))
    assert ends_at(poses(names=names), None) is None
    assert ends_at(poses(names=names), None, first=40) == 9
    assert ends_at(poses(names=tuple("abcde")), None) == 9
    assert ends_at(poses(names=tuple("abcde")), None, name="x.png") is None  # others may come


def test_without_poses_there_is_nothing_to_watch() -> None:
    PriorWatch(None, 10).check([frame(index, at(1e9)) for index in range(10)])


def test_the_message_has_both_clocks_and_the_way_on() -> None:
    known = at(1e9)
    words = r"for any of the frames so far.* from 1000000000\.0.* frame 9 at 0\.9.*pose-offset.*--overwrite"
    with pytest.raises(InputError, match=words):
        PriorWatch(known, 100).check([frame(index, known) for index in range(10)])
