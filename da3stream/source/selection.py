"""Which frames of a source are taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from da3stream.errors import ConfigError, option

if TYPE_CHECKING:  # the decoder process uses this file too, and need not wait for pydantic
    from da3stream.config import SourceConfig

AUTO_VIDEO_FPS = 10.0
"""`select=auto` takes at most this many frames a second of a video."""
LONG_VIDEO_FRAMES = 3000
"""Where that would be more frames than this, `select=auto` takes those that show motion."""
MOTION = 0.01
"""Median optical flow between frames taken by motion, as a share of the longer side of the image: 5 pixels of
504. A drive (KITTI, 10 frames/s) has more from frame to frame; so has, at that rate, a turn of 6 degrees a
second under a field of view of 60 degrees."""

EARLY_S = 0.001
EARLY_SHARE = 0.05
"""A frame counts for an instant of the `fps` grid if it comes at most this early: in seconds, and as a share
of the interval. Containers round times, Matroska to milliseconds: at 29.97 frames/s every third frame would
otherwise come a third of a millisecond "too early" and fall out of a selection with fps = 29.97.
"""

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionRule:
    """Which frames are taken, all defaults resolved."""

    start_s: float | None = None
    """Skip what lies before this time, in seconds after the first frame of the source."""
    end_s: float | None = None
    """Skip what lies at or after this time, in seconds after the first frame of the source."""
    fps: float | None = None
    """Take at most this many frames a second; None: no limit."""
    every: int = 1
    """Take every N-th of the frames between start and end."""
    motion: float | None = None
    """Of these, take a frame once the median optical flow since the last one taken reaches this share of the
    longer side of the image (see `motion.MotionFilter`); None: take all of them."""
    max_frames: int | None = None
    """Stop after this many."""

    def estimate(self, *, frames: int, duration_s: float) -> int:
        """How many frames will be taken of `frames` frames that are evenly spread over `duration_s`.

        At most so many, if they are selected by motion.
        """
        if frames <= 0 or duration_s <= 0:
            return 0
        stop_s = duration_s if self.end_s is None else min(self.end_s, duration_s)
        span_s = max(0.0, stop_s - (self.start_s or 0.0))
        taken = math.ceil(round(frames * span_s / duration_s, 6))
        if self.fps is not None:
            taken = min(taken, math.ceil(round(span_s * self.fps, 6)))
        taken = math.ceil(taken / self.every)
        return taken if self.max_frames is None else min(taken, self.max_frames)


def video_rule(config: SourceConfig, estimate: Callable[[SelectionRule], int | None]) -> SelectionRule:
    """The rule for a video: `fps` and `every` override `select=auto`.

    `estimate` tells how many frames a rule takes of the video, None if that is not known; it is asked only
    if the answer matters.
    """
    rule = replace(_common_rule(config), fps=config.fps)
    if config.select != "auto" or config.fps is not None or config.every is not None:
        return rule
    rule = replace(rule, fps=AUTO_VIDEO_FPS)
    offered = estimate(replace(rule, max_frames=None))
    is_long = offered is not None and min(offered, config.max_frames or offered) > LONG_VIDEO_FRAMES
    return replace(rule, motion=MOTION if is_long else None)


def image_rule(config: SourceConfig, *, has_times: bool) -> SelectionRule:
    """The rule for a list of images.

    Images with times of their own are thinned to `fps`. Without, `fps` is the rate at which they were taken:
    it gives them times, and `start` and `end` refer to these.

    Raises:
        ConfigError: start or end is given, and there are neither times nor a rate.
    """
    if not has_times and config.fps is None and (config.start is not None or config.end is not None):
        raise ConfigError(
            f"{option('start')} and {option('end')} need times, and the images have none",
            expected="EXIF capture times that increase from image to image",
            hint="Give the rate at which they were taken with --fps.",
        )
    return replace(_common_rule(config), fps=config.fps if has_times else None)


def _common_rule(config: SourceConfig) -> SelectionRule:
    return SelectionRule(
        start_s=config.start,
        end_s=config.end,
        every=config.every or 1,
        motion=MOTION if config.select == "motion" else None,
        max_frames=config.max_frames,
    )


def select(
    frames: Iterable[Item],
    rule: SelectionRule,
    *,
    elapsed_s: Callable[[Item], float],
    motion: Callable[[Iterable[Item]], Iterator[Item]] | None = None,
) -> Iterator[Item]:
    """The frames that a rule takes.

    Args:
        frames: in order of time; they are asked for as long as one of them may be taken.
        rule: which ones.
        elapsed_s: gives the time of a frame, in seconds since the first one.
        motion: drops those without motion; needed if the rule asks for it.
    """
    if rule.motion is None:
        return _by_time(frames, rule, elapsed_s)
    assert motion is not None, "the rule asks for motion"
    return islice(motion(_by_time(frames, replace(rule, max_frames=None), elapsed_s)), rule.max_frames)


def _by_time(
    frames: Iterable[Item], rule: SelectionRule, elapsed_s: Callable[[Item], float]
) -> Iterator[Item]:
    selector = FrameSelector(rule)
    for frame in frames:
        if selector.take(elapsed_s(frame)):
            yield frame
        if selector.is_finished:
            return


def motion_summary(*, kept: int, offered: int) -> Iterator[str]:
    """A sentence about what was left out by motion, if anything was."""
    if kept < offered:
        yield f"selected {kept} of {offered} frames by motion (--select all takes all of them)"


class FrameSelector:
    """Applies a rule, but for motion, to frames that come in order of time.

    With `fps` a frame is taken when its time reaches the next multiple of 1 / fps after the first frame
    taken. The multiples are those of one fixed grid, so rounding never adds up; no frame is taken twice, and
    where the source has fewer frames than the grid, all of them are taken.
    """

    def __init__(self, rule: SelectionRule) -> None:
        self._rule = rule
        self._seen = 0
        self._taken = 0
        self._first_taken_s = 0.0
        self._last_slot = -1
        self.is_finished = False
        """No later frame will be taken."""

    def take(self, elapsed_s: float) -> bool:
        """Whether the next frame is taken; `elapsed_s`: seconds since the first frame of the source."""
        rule = self._rule
        if rule.end_s is not None and elapsed_s >= rule.end_s:
            self.is_finished = True
        if self.is_finished or (rule.start_s is not None and elapsed_s < rule.start_s):
            return False
        self._seen += 1
        if (self._seen - 1) % rule.every or not self._reaches_next_slot(elapsed_s):
            return False
        self._taken += 1
        self.is_finished = self._taken == rule.max_frames
        return True

    def _reaches_next_slot(self, elapsed_s: float) -> bool:
        if self._rule.fps is None:
            return True
        if self._last_slot < 0:
            self._first_taken_s = elapsed_s
        early_share = min(EARLY_SHARE, EARLY_S * self._rule.fps)
        slot = math.floor((elapsed_s - self._first_taken_s) * self._rule.fps + early_share)
        is_reached = slot > self._last_slot
        self._last_slot = max(slot, self._last_slot)
        return is_reached
