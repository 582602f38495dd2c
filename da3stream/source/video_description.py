"""What a video's container and its first frame say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from da3stream.errors import NoFramesError
from da3stream.source.decoder_process import DecoderProcess
from da3stream.source.selection import SelectionRule

_SAME_RATE = 0.05
"""Average and base frame rate that differ by more than this share mean a variable frame rate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoDescription:
    """A video file, without decoding more than its first frame."""

    container: str
    """FFmpeg's name of the container format."""
    codec: str
    """FFmpeg's name of the decoder."""
    width: int
    """Upright, in pixels."""
    height: int
    """Upright, in pixels."""
    rotation_deg: int
    """Clockwise turn that made it upright: 0, 90, 180 or 270."""
    duration_s: float | None
    """Length by the container; None: not known."""
    frames: int | None
    """Number of frames by the container; None: not known."""
    average_fps: float | None
    """Average frame rate by the container."""
    base_fps: float | None
    """The rate on whose grid all frames lie, as far as FFmpeg can tell."""
    has_times: bool
    """The frames carry presentation times."""
    pixel_aspect_ratio: float
    """Width of a pixel divided by its height, of the stored frame."""

    @property
    def estimated_frames(self) -> int | None:
        """Number of frames: the container's, or else what length and rate make of it."""
        if self.frames is not None or self.duration_s is None or self.average_fps is None:
            return self.frames
        return round(self.duration_s * self.average_fps)

    @property
    def is_variable_rate(self) -> bool | None:
        """Whether the frame rate varies; None: not known."""
        if not self.average_fps or not self.base_fps:
            return None
        return abs(self.average_fps / self.base_fps - 1) > _SAME_RATE

    def estimate_selected(self, rule: SelectionRule) -> int | None:
        """How many frames a selection will take; None: not known."""
        frames = self.estimated_frames
        if frames is None:
            return rule.max_frames
        duration_s = self.duration_s or (frames / self.average_fps if self.average_fps else None)
        return rule.max_frames if duration_s is None else rule.estimate(frames=frames, duration_s=duration_s)


def describe_video(path: Path) -> VideoDescription:
    """Describe a video file; in a process of its own, like all decoding.

    Raises:
        InputError: it cannot be used; the subclass says why.
        ProcessLostError: the decoder process was killed from outside.
    """
    with DecoderProcess("describe", path, {}) as decoder:
        return description_from(decoder, str(path))


def description_from(decoder: DecoderProcess, name: str) -> VideoDescription:
    """What a decoder process in the mode `describe` sends. Raises the same errors.

    Args:
        decoder: the process.
        name: of the input, for messages.
    """
    for record in decoder.records():
        return VideoDescription(**record.fields)
    raise NoFramesError(
        f"the decoder died with {decoder.death_signal} before the first frame of {name}",
        hint="It is damaged.",
    )
