"""Frames of inputs that can be read only once: URLs, webcams and standard input."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from da3stream.config import SourceConfig
from da3stream.errors import InputError, NoFramesError
from da3stream.scene import Frame
from da3stream.source.decoder_process import DecoderProcess
from da3stream.source.fingerprint import identity_string
from da3stream.source.live_address import (
    PIPE_EXAMPLE,
    STANDARD_INPUT,
    STANDARD_INPUT_NAME,
    LiveAddress,
    Patience,
)
from da3stream.source.records import Kind
from da3stream.source.selection import SelectionRule, motion_summary, video_rule
from da3stream.source.undistortion import lens_fields, lens_of
from da3stream.source.video import frame_of
from da3stream.source.video_description import VideoDescription, description_from
from da3stream.source.video_losses import loss_warnings

_LOGGER = logging.getLogger(__name__)


class LiveSource:
    """Selected frames of a URL or a webcam, captured in a process of its own (see `live_capture`).

    The camera sets the pace. If the run is slower, at most 60 selected frames wait for it; when that many do,
    the waiting frame whose neighbours lie closest together in time is dropped. So the gaps stay about even,
    and the newest frame is always there. What was dropped is counted in `warnings`. A file on a web server
    waits for the run, and nothing of it is dropped.

    If the stream breaks or ends it is connected again, after 0.5 s, 1 s, 2 s, ... and at most 8 s. After 60 s
    without a frame the capture ends. `Frame.timestamp_s` counts from the first frame, and goes on by the wall
    clock after a break.

    It can be iterated once; the process ends with the iterator.
    """

    timestamps_are_synthetic = False

    def __init__(self, address: LiveAddress, config: SourceConfig, patience: Patience | None = None) -> None:
        """Nothing is opened yet."""
        self.address = address
        self.input = address.shown
        """What names it in run.json: without passwords."""
        self._patience = Patience() if patience is None else patience
        self._rule, self._resolution = video_rule(config, lambda _: None), config.resolution
        self.lens = lens_of(config)
        """The camera whose distortion is taken out of the frames; None: they stay as they are."""
        self._counts: dict[str, Any] = {}
        self._said: list[str] = []
        self._decoder: DecoderProcess | None = None
        self._was_started = self._is_stopping = False

    def __iter__(self) -> Iterator[Frame]:
        """Yield the selected frames as they come.

        Raises:
            InputError: the input does not answer, was iterated before, or the decoder process failed.
            NoFramesError: it gives no frame, or the selection leaves nothing.
            MixedImageSizesError: the size of the images changes.
        """
        if self._was_started:
            raise InputError(f"{self.input} cannot be read a second time")
        self._was_started = True
        frame: Frame | None = None
        with self._process() as decoder:
            self._decoder = decoder
            if self._is_stopping:
                self._end(decoder)
            try:
                for record in decoder.records():
                    self._counts = record.fields.get("counts", {})
                    if record.kind is Kind.END:
                        self._warn(*loss_warnings(record.fields))
                        self._said += motion_summary(**record.fields["motion"]) if self._rule.motion else ()
                    else:
                        frame = frame_of(record, index=0 if frame is None else frame.index + 1)
                        yield frame
            finally:
                self._decoder = None
            if decoder.death_signal is not None:
                self._judge_death(decoder.death_signal, frame)

    @property
    def is_capturing(self) -> bool:
        """Whether frames still come in."""
        return self._decoder is not None and not self._is_stopping

    def stop(self) -> None:
        """End the stream as if the camera had ended, from any thread; what waits is still given out."""
        self._is_stopping = True
        if (decoder := self._decoder) is not None:
            self._end(decoder)

    @property
    def warnings(self) -> list[str]:
        """What was dropped, lost or repaired so far; complete once the iteration has ended."""
        return [*_count_warnings(self._counts, self._patience), *self._said]

    def describe(self) -> VideoDescription:
        """What the stream and its first frame say; connects for it. Raises the same errors as `iter`."""
        with self._request("describe", self.address, {}) as decoder:
            return description_from(decoder, self.input)

    def size_hint(self) -> int | None:
        """The number of frames that the selection allows, None if it sets no bound."""
        return _most_frames(self._rule)

    def identity(self) -> str:
        """Address and selection. What is captured differs each time: only the recorded frames decide."""
        return identity_string(
            "live",
            self.input,
            selection=asdict(self._rule),
            resolution=self._resolution,
            **lens_fields(self.lens),
        )

    def _process(self) -> DecoderProcess:
        fields = self._selection_fields()
        return self._request("capture", self.address, {**fields, "patience": asdict(self._patience)})

    def _selection_fields(self) -> dict[str, Any]:
        return {"rule": asdict(self._rule), "resolution": self._resolution, **lens_fields(self.lens)}

    def _request(
        self, mode: str, address: LiveAddress, fields: dict[str, Any], descriptor: int | None = None
    ) -> DecoderProcess:
        request = {**fields, "address": address.fields()}
        return DecoderProcess(mode, self.address.shown, request, descriptor=descriptor)

    def _end(self, decoder: DecoderProcess) -> None:
        decoder.request_stop()

    def _judge_death(self, signal_name: str, last: Frame | None) -> None:
        if last is None:
            raise NoFramesError(f"the decoder died with {signal_name} before the first frame of {self.input}")
        self._warn(
            f"the decoder died with {signal_name} after {last.timestamp_s:.2f} s: the capture ends there"
        )

    def _warn(self, *warnings: str) -> None:
        for warning in warnings:
            _LOGGER.warning("%s: %s", self.input, warning)
            self._said.append(warning)


class PipedSource(LiveSource):
    """Selected frames of a container that comes through standard input.

    A pipe waits for its reader: nothing is dropped, and there is nothing to connect to again.
    """

    def __init__(self, config: SourceConfig, descriptor: int = 0) -> None:
        """`descriptor`: number of the open file to read."""
        super().__init__(LiveAddress(url=STANDARD_INPUT, shown=STANDARD_INPUT_NAME), config)
        self.input = STANDARD_INPUT
        self._descriptor = descriptor

    def describe(self) -> VideoDescription:
        """What the container and its first frame say; that part of the pipe is gone afterwards."""
        with self._piped("describe", {}) as decoder:
            return description_from(decoder, self.address.shown)

    def _process(self) -> DecoderProcess:
        return self._piped("frames", self._selection_fields())

    def _piped(self, mode: str, fields: dict[str, Any]) -> DecoderProcess:
        """A decoder process that inherits the pipe beside the pipe of its requests."""
        if os.isatty(self._descriptor):
            raise InputError(
                "standard input is a terminal",
                expected="a video through a pipe",
                hint=f"For example: {PIPE_EXAMPLE}",
            )
        inherited = os.dup(self._descriptor)
        try:
            address = LiveAddress(url=f"pipe:{inherited}", shown=self.address.shown)
            return self._request(mode, address, fields, descriptor=inherited)
        finally:
            os.close(inherited)

    def _end(self, decoder: DecoderProcess) -> None:
        """The program before the pipe may be silent, so the decoder is not asked."""
        decoder.kill()


def _count_warnings(counts: dict[str, Any], patience: Patience) -> Iterator[str]:
    """What the counts of the decoder process tell, in sentences."""
    if counts.get("dropped"):
        yield (
            f"dropped {counts['dropped']:,} of {counts['selected']:,} frames because estimation is slower "
            "than the camera"
        )
    if counts.get("reconnections"):
        times = "once" if counts["reconnections"] == 1 else f"{counts['reconnections']} times"
        yield f"the stream broke and was connected again {times}: frames are missing there"
    if counts.get("has_given_up"):
        yield f"the stream ended and did not come back within {patience.give_up_s:g} s"


def _most_frames(rule: SelectionRule) -> int | None:
    """How many frames a rule takes at most; None: any number."""
    bounds = [] if rule.max_frames is None else [rule.max_frames]
    if rule.end_s is not None and rule.fps is not None:
        span_s = rule.end_s - (rule.start_s or 0.0)
        bounds.append(math.ceil(math.ceil(round(span_s * rule.fps, 6)) / rule.every))
    return min(bounds, default=None)
