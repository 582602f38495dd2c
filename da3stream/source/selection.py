"""Which frames of a source are taken."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from da3stream.errors import ConfigError

if TYPE_CHECKING:  # the decoder process uses this file too, and need not wait for pydantic
    from da3stream.config import SourceConfig

AUTO_VIDEO_FPS = 10.0
"""`select=auto` takes at most this many frames a second of a video."""

EARLY_S = 0.001
EARLY_SHARE = 0.05
"""A frame counts for an instant of the `fps` grid if it comes at most this early: in seconds, and as a share
of the interval. Containers round times, Matroska to milliseconds: at 29.97 frames/s every third frame would
otherwise come a third of a millisecond "too early" and fall out of a selection with fps = 29.97.
"""


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
    max_frames: int | None = None
    """Stop after this many."""

    def estimate(self, *, frames: int, duration_s: float) -> int:
        """How many frames will be taken of `frames` frames that are evenly spread over `duration_s`."""
        if frames <= 0 or duration_s <= 0:
            return 0
        stop_s = duration_s if self.end_s is None else min(self.end_s, duration_s)
        span_s = max(0.0, stop_s - (self.start_s or 0.0))
        taken = math.ceil(round(frames * span_s / duration_s, 6))
        if self.fps is not None:
            taken = min(taken, math.ceil(round(span_s * self.fps, 6)))
        taken = math.ceil(taken / self.every)
        return taken if self.max_frames is None else min(taken, self.max_frames)


def video_rule(config: SourceConfig) -> SelectionRule:
    """The rule for a video: `fps` and `every` override `select`."""
    fps = config.fps
    if fps is None and config.every is None and config.select == "auto":
        fps = AUTO_VIDEO_FPS
    return replace(_common_rule(config), fps=fps)


def image_rule(config: SourceConfig, *, has_times: bool) -> SelectionRule:
    """The rule for a list of images.

    Images with times of their own are thinned to `fps`. Without, `fps` is the rate at which they were taken:
    it gives them times, and `start` and `end` refer to these.

    Raises:
        ConfigError: start or end is given, and there are neither times nor a rate.
    """
    if not has_times and config.fps is None and (config.start is not None or config.end is not None):
        raise ConfigError(
            "start and end need times, and the images have none",
            expected="EXIF capture times that increase from image to image",
            hint="Give the rate at which they were taken with --fps.",
        )
    return replace(_common_rule(config), fps=config.fps if has_times else None)


def _common_rule(config: SourceConfig) -> SelectionRule:
    return SelectionRule(
        start_s=config.start, end_s=config.end, every=config.every or 1, max_frames=config.max_frames
    )


class FrameSelector:
    """Applies a rule to frames that come in order of time.

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
