"""Captures a live stream in the decoder process: connects, connects again after a break, and keeps time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import av
from av.error import FFmpegError, ProtocolNotFoundError

from da3stream.errors import RESUME, InputError, MixedImageSizesError, NoFramesError, NotAVideoError
from da3stream.source.live_address import PIPE_EXAMPLE, LiveAddress, Patience
from da3stream.source.ordered_conversion import Message
from da3stream.source.selection import SelectionRule, select
from da3stream.source.thinned_buffer import ThinnedBuffer
from da3stream.source.video_decoding import DecodedFrame, DecodingLosses, VideoDecoder

Motion: TypeAlias = Callable[[Iterable[DecodedFrame]], Iterator[DecodedFrame]]
BUFFERED_FRAMES = 60
"""Selected frames that wait for a slow run at most: as many as a chunk has by default."""


class StreamDecoder(VideoDecoder):
    """One connection. That it breaks off is no damage of its last packets."""

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self._container.demux(self.stream)
        except FFmpegError:
            yield None

    def close(self) -> None:
        """Hang up: some cameras serve only one client."""
        self._container.close()

    @property
    def states_its_length(self) -> bool:
        """Whether the container says how long it is: then it is a file on a server."""
        return self._container.duration is not None


class LiveCapture:
    """Frames of a live stream. `select` from them once.

    `elapsed_s` and `timestamp_s` count from the first frame of the capture. Within a connection they follow
    the stream's own clock; a new connection begins at the time that has passed by the wall clock.

    A file on a web server, which states its length, is no live stream: it is read at the reader's pace, and
    its end is the end.
    """

    def __init__(self, address: LiveAddress, rule: SelectionRule, patience: Patience) -> None:
        """Connect.

        Raises:
            InputError: that is not possible; the message says why.
        """
        self.address = address
        self._rule = rule
        self._patience = patience
        self._stopped = threading.Event()
        self._last_frame_s = self._first_frame_s = 0.0
        self._delay_s = patience.first_delay_s
        self._elapsed_s: float | None = None
        self.losses = DecodingLosses()
        self.decoder = self._connection()
        """The connection, or the last one."""
        self.reconnections = 0
        """How often the stream broke and came back."""
        self.has_given_up = False
        """The stream broke and did not come back."""

    @property
    def is_live(self) -> bool:
        """Whether the stream does not wait for its reader."""
        is_web = self.address.url.lower().startswith("http")
        return not (is_web and self.decoder.states_its_length)

    def stop(self) -> None:
        """End as if the camera had ended."""
        self._stopped.set()

    def select(self, motion: Motion | None) -> Iterator[DecodedFrame]:
        """The selected frames; `motion` drops those without motion, which a rule may ask for.

        Raises:
            NoFramesError: the first connection gave no frame.
            MixedImageSizesError: the size of the images has changed.
        """
        return select(self._frames(), self._rule, elapsed_s=lambda frame: frame.elapsed_s, motion=motion)

    def _frames(self) -> Iterator[DecodedFrame]:
        """All frames of all connections."""
        first_size: tuple[int, int] | None = None
        seen = 0
        while True:
            for frame in self._timed(self.decoder, seen):
                size = (frame.frame.width, frame.frame.height)
                first_size = first_size or size
                if size != first_size:
                    raise _changed_size(self.address, frame.elapsed_s, first_size, size)
                if self._stopped.is_set():
                    return
                yield frame
            if first_size is None:
                raise NoFramesError(
                    f"no frame came from {self.address.shown}",
                    got=f"{self.losses.broken_packets} broken packets, "
                    f"{self.losses.damaged_frames} damaged frames",
                    hint="Does the camera send? Try: ffplay with the same address.",
                )
            seen += self.decoder.decoded_frames
            if not self.is_live or not self._connect_again():
                return

    def _timed(self, decoder: StreamDecoder, seen: int) -> Iterator[DecodedFrame]:
        """The frames of a connection, with the time and the numbers of the capture."""
        offset_s: float | None = None
        for frame in decoder:
            self._last_frame_s, self._delay_s = time.monotonic(), self._patience.first_delay_s
            if offset_s is None:
                offset_s = self._offset_s(float(1 / decoder.rate))
            self._elapsed_s = offset_s + frame.elapsed_s
            yield replace(
                frame,
                source_index=seen + frame.source_index,
                timestamp_s=self._elapsed_s,
                elapsed_s=self._elapsed_s,
            )

    def _offset_s(self, interval_s: float) -> float:
        """When a connection's first frame was taken, in seconds after the first frame of the capture."""
        if self._elapsed_s is None:
            self._first_frame_s = self._last_frame_s
            return 0.0
        return max(self._last_frame_s - self._first_frame_s, self._elapsed_s + interval_s)

    def _connect_again(self) -> bool:
        """Wait and connect until it works; False: the capture was stopped, or has given up."""
        self.decoder.close()
        while not self._stopped.is_set():
            left_s = self._last_frame_s + self._patience.give_up_s - time.monotonic()
            if left_s <= 0:
                self.has_given_up = True
                return False
            if self._stopped.wait(min(self._delay_s, left_s)):
                return False
            self._delay_s = min(2 * self._delay_s, self._patience.longest_delay_s)
            try:
                self.decoder = self._connection()
            except InputError:
                continue
            self.reconnections += 1
            return True
        return False

    def _connection(self) -> StreamDecoder:
        container = open_stream(self.address, self._patience)
        return StreamDecoder(self.address.shown, container=container, losses=self.losses)


class BufferedCapture:
    """Captures in a thread and gives messages to another one, which may be slower. Iterate once."""

    def __init__(
        self,
        capture: LiveCapture,
        motion: Motion | None,
        stop: threading.Event,
        convert: Callable[[DecodedFrame, VideoDecoder], Message],
    ) -> None:
        """
        Args:
            capture: of which stream.
            motion: see `LiveCapture.select`.
            stop: ends the capture when set; what waits is still given out.
            convert: makes a message of a frame.
        """
        self._capture, self._motion, self._stop, self._convert = capture, motion, stop, convert
        self._waiting: ThinnedBuffer[Message] = ThinnedBuffer(BUFFERED_FRAMES, is_thinned=capture.is_live)

    def counts(self) -> dict[str, Any]:
        """What was taken, dropped and broken so far."""
        return {
            "selected": self._waiting.put_in,
            "dropped": self._waiting.dropped,
            "reconnections": self._capture.reconnections,
            "has_given_up": self._capture.has_given_up,
        }

    def __iter__(self) -> Iterator[Message]:
        """Messages in order. Raises what iterating the capture raises, after all messages before."""
        for work in (self._fill, self._end_when_asked):
            threading.Thread(target=work, daemon=True).start()
        return iter(self._waiting)

    def _fill(self) -> None:
        try:
            for decoded in self._capture.select(self._motion):
                self._waiting.put(decoded.elapsed_s, self._convert(decoded, self._capture.decoder))
        except BaseException as error:  # raised again in the thread that iterates
            self._waiting.close(error)
        self._waiting.close()

    def _end_when_asked(self) -> None:
        self._stop.wait()
        self._capture.stop()
        self._waiting.close()


def open_stream(address: LiveAddress, patience: Patience) -> Any:
    """Open a URL or a webcam.

    Raises:
        InputError: it does not answer, or what it answers is no video.
    """
    began_s = time.monotonic()
    try:
        return av.open(
            address.url,
            format=address.format,
            options=dict(address.options),
            timeout=(patience.answer_s, patience.silence_s),
            metadata_errors="replace",
        )
    except (FFmpegError, OSError, ValueError) as error:
        # Not by the kind of error: each protocol reports an interruption in its own way.
        is_late = time.monotonic() - began_s >= patience.answer_s
        reason = f"no answer within {patience.answer_s:g} s" if is_late else _reason(error)
        hint = _opening_hint(address, error)
    raise InputError(f"{address.shown} cannot be opened", got=reason, hint=hint)


def open_pipe(address: LiveAddress) -> Any:
    """Open a container that comes through a pipe.

    Raises:
        NotAVideoError: it holds nothing, or no video.
    """
    try:
        return av.open(address.url, metadata_errors="replace")
    except (FFmpegError, OSError) as error:
        raise NotAVideoError(
            f"{address.shown} is no video that can be read",
            got=_reason(error),
            expected="a container that can be read from front to back, such as mkv, ts or fragmented mp4",
            hint=f"Has the program before the pipe failed? For example: {PIPE_EXAMPLE}",
        ) from None


def _reason(error: Exception) -> str:
    """FFmpeg's words, without the address: that may hold a password."""
    return getattr(error, "strerror", None) or type(error).__name__


def _opening_hint(address: LiveAddress, error: Exception) -> str:
    if isinstance(error, ProtocolNotFoundError):
        return "PyAV's FFmpeg lacks this protocol; another ffmpeg can pipe it: " + PIPE_EXAMPLE
    if address.format is None:
        return "Check the address, the password and that the camera is on; try: ffplay with the same address."
    if address.format in av.formats_available or f"video4linux2,{address.format}" in av.formats_available:
        return "List the cameras with: ls /dev/video*. No other program may use it."
    return "Webcams need Linux; elsewhere pipe the camera: ffmpeg ... -f matroska - | da3stream run - -o out"


def _changed_size(
    address: LiveAddress, elapsed_s: float, first: tuple[int, int], other: tuple[int, int]
) -> MixedImageSizesError:
    return MixedImageSizesError(
        f"{address.shown} came back with another image size after {elapsed_s:.2f} s",
        got=f"{other[0]}x{other[1]}",
        expected=f"{first[0]}x{first[1]} throughout",
        hint=f"Finish the run from what was captured before: {RESUME}",
    )
