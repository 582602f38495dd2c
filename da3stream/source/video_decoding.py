"""Decodes a video file. Runs in the decoder process only: a damaged file can take the whole process down.

"Broken" is a packet that the decoder refuses. Frames that refer to it come out of the decoder all the same,
patched up from whatever was there and not marked; so after a broken packet everything up to the next key
frame is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.error import FFmpegError

from da3stream.errors import (
    InputError,
    InputNotFoundError,
    MixedImageSizesError,
    NoFramesError,
    NotAVideoError,
    NoVideoStreamError,
)
from da3stream.source.orientation import Orientation

_DECODER_THREADS = min(os.cpu_count() or 1, 8)
"""Each thread holds a frame, so the number is bounded."""

MAX_PIXELS = 100_000_000
"""Of one frame: 12K has 80 million. FFmpeg refuses larger ones, which only damaged headers claim."""
_LIMITS = {"max_pixels": str(MAX_PIXELS)}


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedFrame:
    """A decoded frame with its place in the video."""

    frame: Any
    """`av.VideoFrame`, as stored (not turned)."""
    source_index: int
    """Number of the frame in order of presentation, from 0; dropped frames count."""
    timestamp_s: float
    """Presentation time in seconds, as the container has it."""
    elapsed_s: float
    """Seconds after the first frame of the video."""


@dataclass(kw_only=True, slots=True)
class DecodingLosses:
    """What went wrong so far."""

    broken_packets: int = 0
    """Packets that could not be decoded."""
    damaged_frames: int = 0
    """Frames that were dropped because they refer to broken packets."""
    repaired_times: int = 0
    """Frames whose time did not come after the one before."""
    missing_times: int = 0
    """Frames without a time."""


class PresentationClock:
    """Turns the time stamps of a stream into seconds that always increase."""

    def __init__(self, interval_s: Fraction, losses: DecodingLosses) -> None:
        self._interval_s = interval_s
        self._losses = losses
        self._shift_s = Fraction(0)
        self._last_s: Fraction | None = None

    def time_of(self, pts: int | None, time_base: Fraction | None) -> Fraction:
        """Seconds.

        A time that is missing or goes back becomes that of the frame before plus the usual interval, and what
        follows is shifted with it: later intervals stay true.
        """
        following_s = Fraction(0) if self._last_s is None else self._last_s + self._interval_s
        if pts is None or time_base is None:
            self._losses.missing_times += 1
            time_s = following_s
        else:
            time_s = pts * time_base + self._shift_s
            if self._last_s is not None and time_s <= self._last_s:
                self._losses.repaired_times += 1
                self._shift_s += following_s - time_s
                time_s = following_s
        self._last_s = time_s
        return time_s


class VideoDecoder:
    """An open video. Iterate once.

    Raises (the constructor):
        InputNotFoundError, NotAVideoError, NoVideoStreamError: see there.
    """

    def __init__(
        self, path: str, *, container: Any | None = None, losses: DecodingLosses | None = None
    ) -> None:
        """
        Args:
            path: of the file; if a container is given, what messages call it.
            container: an open `av` container; default: the file is opened.
            losses: where losses are counted; default: none so far.
        """
        self.path = path
        self.losses = DecodingLosses() if losses is None else losses
        self._container = _open(path) if container is None else container
        self.stream = _video_stream(self._container, path)
        # Threads by frames where the codec can do so; PyAV's default is by slices alone.
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.options = dict(_LIMITS)
        self.stream.codec_context.thread_count = _DECODER_THREADS
        self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self._broken_until: int | None = None  # in units of the time base; None: all is well
        self.end_s = 0.0
        """When the last intact frame so far disappears, in seconds after the first one."""
        self.orientation = Orientation()
        """How frames are turned; known once the first one is decoded."""
        self.is_turned_oddly = False
        """The container asks for a turn by something else than right angles; frames are left as they are."""
        self.is_interlaced = False
        """The first frame consists of two fields, taken one after the other."""
        self.decoded_frames = 0
        """Frames decoded so far, damaged ones included."""
        self.is_complete = False
        """All frames have been decoded."""

    def __iter__(self) -> Iterator[DecodedFrame]:
        clock = PresentationClock(1 / self.rate, self.losses)
        first_s: Fraction | None = None
        first_size: tuple[int, int] | None = None
        for index, frame in enumerate(self._decoded()):
            self.decoded_frames = index + 1
            if not self._is_intact(frame):
                # Its time does not count either: damaged frames may come out of order.
                self.losses.damaged_frames += 1
                continue
            time_s = clock.time_of(frame.pts, frame.time_base)
            if first_s is None or first_size is None:
                first_s, first_size = time_s, (frame.width, frame.height)
                self._note_first(frame)
            if (frame.width, frame.height) != first_size:
                raise _changed_size(self.path, time_s - first_s, first_size, frame)
            self.end_s = float(time_s - first_s + self._frame_duration(frame))
            yield DecodedFrame(
                frame=frame,
                source_index=index,
                timestamp_s=float(time_s),
                elapsed_s=float(time_s - first_s),
            )
        self.is_complete = True

    def _note_first(self, frame: Any) -> None:
        self.is_interlaced = frame.interlaced_frame
        for side_data in frame.side_data:
            if side_data.type.name == "DISPLAYMATRIX":
                orientation = Orientation.from_display_matrix(bytes(side_data))
                self.is_turned_oddly = orientation is None
                self.orientation = orientation or Orientation()

    def _decoded(self) -> Iterator[Any]:
        """All frames that the decoder gives, in order of presentation."""
        for packet in self._packets():
            try:
                yield from self.stream.decode(packet)
            except FFmpegError:
                self._note_broken(None if packet is None else packet.pts)

    def _packets(self) -> Iterator[Any]:
        """All packets; the last one is empty or None and makes the decoder give out what it still holds."""
        try:
            yield from self._container.demux(self.stream)
        except FFmpegError:  # the container itself breaks off here
            self._note_broken(None)
            yield None

    def _note_broken(self, pts: int | None) -> None:
        self.losses.broken_packets += 1
        self._broken_until = max(self._broken_until or 0, pts or 0)

    def _is_intact(self, frame: Any) -> bool:
        """Whether no broken packet went into the frame: none since the last key frame.

        Frames come out later than their packets go in, so a key frame counts only if it is shown after the
        breakage.
        """
        if frame.is_corrupt:
            self._broken_until = (frame.pts or 0) + 1
        elif frame.key_frame and self._broken_until is not None and self._broken_until <= (frame.pts or 0):
            self._broken_until = None
        return self._broken_until is None

    def _frame_duration(self, frame: Any) -> Fraction:
        if frame.duration and frame.time_base:
            return Fraction(frame.duration * frame.time_base)
        return 1 / self.rate

    @property
    def duration_s(self) -> float | None:
        """Length of the video stream by its container, in seconds; None: not known."""
        if self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        # Matroska counts from 0 to the end of the last frame, wherever the first one lies.
        end_s = _seconds(self.stream.metadata.get("DURATION"))
        if end_s is None and len(self._container.streams) == 1 and self._container.duration:
            end_s = self._container.duration / av.time_base
        start_s = float((self.stream.start_time or 0) * (self.stream.time_base or 0))
        return None if end_s is None else end_s - max(start_s, 0.0)

    @property
    def container_name(self) -> str:
        """FFmpeg's name of the container format."""
        return str(self._container.format.name)


def _open(path: str) -> Any:
    try:
        # The options also hold for the decoders that look for the size while the file is opened.
        return av.open(path, metadata_errors="replace", options=_LIMITS)
    except FileNotFoundError:
        raise InputNotFoundError(f"there is no file {path}") from None
    except PermissionError:
        raise InputError(f"{path} cannot be read", got="permission denied") from None
    except (FFmpegError, OSError) as error:
        raise _not_a_video(path, error) from None


def _not_a_video(path: str, error: Exception) -> NotAVideoError | NoFramesError:
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        return NoFramesError(f"{path} is empty", got="a file of 0 bytes", expected="a video")
    reason = getattr(error, "strerror", None) or str(error)
    return NotAVideoError(
        f"{path} is no video that can be read",
        got=reason,
        expected="a video container, such as mp4, mov, mkv, webm, avi or ts",
        hint="Is the file complete? An mp4 whose recording was interrupted lacks its index.",
    )


def _video_stream(container: Any, path: str) -> Any:
    """The best video stream; pictures attached to music do not count."""
    kinds = [stream.type for stream in container.streams]
    videos = [stream for stream in container.streams.video if not is_attached_picture(stream)]
    if not videos:
        raise NoVideoStreamError(
            f"{path} holds no video", got=f"streams: {', '.join(kinds) or 'none'}", expected="a video stream"
        )
    best = container.streams.best("video")
    stream = best if best in videos else videos[0]
    if stream.codec_context is None:
        raise NotAVideoError(
            f"{path} is encoded in a way that FFmpeg cannot decode", hint="Convert it to H.264 or H.265."
        )
    return stream


def is_attached_picture(stream: Any) -> bool:
    """Whether the stream is a still picture, such as the cover of a piece of music."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _changed_size(path: str, elapsed_s: Fraction, first: tuple[int, int], frame: Any) -> MixedImageSizesError:
    return MixedImageSizesError(
        f"{path} changes its size {float(elapsed_s):.2f} s after its start",
        got=f"{frame.width}x{frame.height}",
        expected=f"{first[0]}x{first[1]} throughout",
        hint="End before with --end, or convert the video to one size.",
    )


def _seconds(clock_time: str | None) -> float | None:
    """Seconds of `00:00:06.666000000`, as Matroska's DURATION tag has it."""
    try:
        hours, minutes, seconds = (clock_time or "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None
