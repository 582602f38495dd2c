"""Which frames are taken."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from da3stream.config import SourceConfig
from da3stream.errors import ConfigError
from da3stream.source.selection import (
    EARLY_S,
    EARLY_SHARE,
    LONG_VIDEO_FRAMES,
    MOTION,
    FrameSelector,
    SelectionRule,
    image_rule,
    video_rule,
)
from da3stream.source.selection import select as select_frames


def select(times_s: list[float], **rule: float) -> list[int]:
    """Indices that a rule takes."""
    selector = FrameSelector(SelectionRule(**rule))  # type: ignore[arg-type]
    return [index for index, time_s in enumerate(times_s) if selector.take(time_s)]


def constant_rate(fps: float, frames: int, digits: int = 12) -> list[float]:
    return [round(index / fps, digits) for index in range(frames)]


@given(
    intervals_s=st.lists(st.floats(1e-3, 0.5), min_size=1, max_size=80),
    start_s=st.floats(0, 3),
    fps=st.floats(0.3, 200),
)
def test_fps_takes_the_first_frame_of_every_instant_of_the_grid(
    intervals_s: list[float], start_s: float, fps: float
) -> None:
    times_s = [0.0]
    for interval_s in intervals_s:
        times_s.append(times_s[-1] + interval_s)
    candidates = [index for index, time_s in enumerate(times_s) if time_s >= start_s]
    if not candidates:
        assert select(times_s, fps=fps, start_s=start_s) == []
        return
    first_s = times_s[candidates[0]]

    # By definition: instant n is served by the first frame that reaches it; one frame may serve several.
    early = min(EARLY_SHARE, EARLY_S * fps)
    expected = set()
    for instant in range(math.floor((times_s[-1] - first_s) * fps + early) + 1):
        reached = (i for i in candidates if (times_s[i] - first_s) * fps + early >= instant)
        expected.add(next(reached))

    assert select(times_s, fps=fps, start_s=start_s) == sorted(expected)


@pytest.mark.parametrize(("video_fps", "fps"), [(24, 1), (25, 5), (30, 10), (30, 15), (60, 10)])
def test_fps_does_not_drift_over_half_an_hour(video_fps: int, fps: int) -> None:
    frames = 1800 * video_fps
    taken = select(constant_rate(video_fps, frames), fps=fps)
    assert taken == list(range(0, frames, video_fps // fps))


@pytest.mark.parametrize("fps", [29.97, 31, 59])
def test_a_rate_above_that_of_the_video_takes_all_frames_once(fps: float) -> None:
    times_s = [round(float(Fraction(index * 1001, 30000)), 3) for index in range(3000)]  # as Matroska rounds
    assert select(times_s, fps=fps) == list(range(3000))


def test_variable_rate_is_thinned_by_time_and_not_by_count() -> None:
    times_s = [0.0, 0.01, 0.02, 0.03, 1.0, 1.01, 5.0]
    assert select(times_s, fps=10) == [0, 4, 6]


def test_start_and_end_are_half_open() -> None:
    times_s = constant_rate(10, 20, digits=1)
    assert select(times_s, start_s=0.5, end_s=0.8) == [5, 6, 7]


def test_every_counts_from_the_first_frame_after_start() -> None:
    assert select(constant_rate(10, 20, digits=1), start_s=0.5, every=4) == [5, 9, 13, 17]


def test_max_frames_and_end_finish_the_selection() -> None:
    selector = FrameSelector(SelectionRule(max_frames=2))
    assert [selector.take(t) for t in (0.0, 0.1)] == [True, True]
    assert selector.is_finished
    selector = FrameSelector(SelectionRule(end_s=0.1))
    assert [selector.take(t) for t in (0.0, 0.1)] == [True, False]
    assert selector.is_finished


def test_defaults_of_videos_and_images() -> None:
    assert rule_of_video().fps == 10
    assert rule_of_video(select="all").fps is None
    assert rule_of_video(every=3).fps is None
    assert rule_of_video(fps=24).fps == 24
    assert image_rule(SourceConfig(), has_times=True).fps is None
    assert image_rule(SourceConfig(fps=5), has_times=True).fps == 5
    assert image_rule(SourceConfig(fps=5), has_times=False).fps is None  # it is their rate already


def rule_of_video(frames: int | None = 100, **config: object) -> SelectionRule:
    """The rule for a video of which a rule takes so many frames."""
    return video_rule(SourceConfig(**config), lambda rule: frames)  # type: ignore[arg-type]


def test_only_long_videos_are_selected_by_motion_by_default() -> None:
    assert rule_of_video(LONG_VIDEO_FRAMES).motion is None
    long = rule_of_video(LONG_VIDEO_FRAMES + 1)
    assert (long.fps, long.motion) == (10, MOTION)
    assert rule_of_video(None).motion is None
    assert rule_of_video(LONG_VIDEO_FRAMES + 1, max_frames=100).motion is None
    assert rule_of_video(LONG_VIDEO_FRAMES + 1, fps=10).motion is None
    assert rule_of_video(LONG_VIDEO_FRAMES + 1, select="all").motion is None


def test_an_unknown_length_is_not_taken_for_the_limit_that_was_asked_for() -> None:
    rule = video_rule(SourceConfig(max_frames=LONG_VIDEO_FRAMES + 1), lambda rule: rule.max_frames)
    assert rule.motion is None


def test_motion_combines_with_rates() -> None:
    assert (rule_of_video(select="motion").motion, rule_of_video(select="motion").fps) == (MOTION, None)
    assert rule_of_video(select="motion", fps=5).fps == 5
    assert rule_of_video(select="motion", every=3).every == 3
    assert image_rule(SourceConfig(select="motion"), has_times=False).motion == MOTION
    assert image_rule(SourceConfig(), has_times=False).motion is None


def test_rates_come_before_motion_and_the_limit_after_it() -> None:
    offered: list[int] = []

    def every_second(frames: Iterable[int]) -> Iterator[int]:
        for frame in frames:
            offered.append(frame)
            if len(offered) % 2:
                yield frame

    rule = SelectionRule(every=3, motion=MOTION, max_frames=3)
    assert list(select_frames(range(100), rule, elapsed_s=float, motion=every_second)) == [0, 6, 12]
    assert offered == [0, 3, 6, 9, 12]


def test_start_without_any_times_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--fps"):
        image_rule(SourceConfig(start=1), has_times=False)


@given(
    frames=st.integers(1, 400),
    video_fps=st.sampled_from([10, 24, 25, 30, 60]),
    fps=st.none() | st.sampled_from([1.0, 4.0, 10.0, 23.0, 90.0]),
    start_s=st.none() | st.floats(0, 5),
    max_frames=st.none() | st.integers(1, 50),
)
def test_the_estimate_is_close(
    frames: int, video_fps: int, fps: float | None, start_s: float | None, max_frames: int | None
) -> None:
    rule = SelectionRule(fps=fps, start_s=start_s, max_frames=max_frames)
    selector = FrameSelector(rule)
    taken = sum(selector.take(time_s) for time_s in constant_rate(video_fps, frames))
    assert abs(rule.estimate(frames=frames, duration_s=frames / video_fps) - taken) <= 2


def test_the_estimate_of_nothing() -> None:
    assert SelectionRule().estimate(frames=0, duration_s=0) == 0
    assert SelectionRule(start_s=5).estimate(frames=30, duration_s=1) == 0
