"""Frames of a video file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from da3stream.config import SourceConfig
from da3stream.errors import InputError, InputNotFoundError, NoFramesError
from da3stream.scene import Frame
from da3stream.source.base import OriginalImage
from da3stream.source.decoder_process import DecoderProcess
from da3stream.source.fingerprint import content_fingerprint, identity_string
from da3stream.source.records import Kind, Record
from da3stream.source.selection import SelectionRule, motion_summary, video_rule
from da3stream.source.undistortion import lens_fields, lens_of
from da3stream.source.video_description import VideoDescription, describe_video
from da3stream.source.video_losses import loss_warnings

_LOGGER = logging.getLogger(__name__)


class VideoSource:
    """Selected frames of a video file, decoded in a process of its own (see `decoder`).

    `Frame.source_index` counts the decoded frames in order of presentation from 0. `Frame.timestamp_s` is the
    presentation time as the container has it, so a stream that does not start at 0 keeps its offset; `start`
    and `end` of the configuration count from the first frame, as the clock of a player does.

    Each call of `iter` starts a decoder process, which ends with the iterator: exhaust or close it.
    """

    timestamps_are_synthetic = False

    def __init__(self, path: str | Path, config: SourceConfig) -> None:
        """
        Raises:
            InputNotFoundError: there is no such file.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise InputNotFoundError(f"there is no file {self.path}")
        self.warnings: list[str] = []
        """What was lost or repaired; complete once an iteration has ended."""
        self._config = config
        self._description: VideoDescription | None = None
        self.lens = lens_of(config)
        """The camera whose distortion is taken out of the frames; None: they stay as they are."""

    @cached_property
    def rule(self) -> SelectionRule:
        """The selection with its defaults resolved; for that `select=auto` describes the video.

        Raises what `describe` raises.
        """
        return video_rule(self._config, lambda rule: self.describe().estimate_selected(rule))

    def __iter__(self) -> Iterator[Frame]:
        """Yield the selected frames.

        Raises:
            NotAVideoError, NoVideoStreamError: the file holds no video.
            NoFramesError: nothing can be decoded, or the selection leaves nothing.
            MixedImageSizesError: the video changes its size.
            InputError: the decoder process failed.
            ProcessLostError: the decoder process was killed from outside.
        """
        self.warnings.clear()
        request = {
            "rule": asdict(self.rule),
            "resolution": self._config.resolution,
            **lens_fields(self.lens),
        }
        frame: Frame | None = None
        with DecoderProcess("frames", self.path, request) as decoder:
            for record in decoder.records():
                if record.kind is Kind.END:
                    self._warn(*loss_warnings(record.fields))
                    self.warnings += motion_summary(**record.fields["motion"]) if self.rule.motion else ()
                else:
                    frame = frame_of(record, index=0 if frame is None else frame.index + 1)
                    yield frame
            if decoder.death_signal is not None:
                self._warn(self._death(decoder.death_signal, frame))

    def _death(self, signal_name: str, last: Frame | None) -> str:
        """The warning about a decoder that crashed; without any frame this is an error."""
        if last is None:
            raise NoFramesError(
                f"the decoder died with {signal_name} before the first frame of {self.path}",
                hint="The file is damaged.",
            )
        return (
            f"the decoder died with {signal_name} after frame {last.source_index} "
            f"({last.timestamp_s:.2f} s): the frames up to there are used, the rest is lost"
        )

    def _warn(self, *warnings: str) -> None:
        for warning in warnings:
            _LOGGER.warning("%s: %s", self.path.name, warning)
            self.warnings.append(warning)

    def describe(self) -> VideoDescription:
        """What the container and the first frame say. Raises the same errors as `iter`."""
        if self._description is None:
            self._description = describe_video(self.path)
        return self._description

    def size_hint(self) -> int | None:
        """Estimated number of selected frames, by what the container says; if motion selects, the most.

        Raises what `iter` raises.
        """
        return self.describe().estimate_selected(self.rule)

    def identity(self) -> str:
        """Content (see `content_fingerprint`) and selection. Raises what `rule` raises."""
        return identity_string(
            "video",
            content_fingerprint(self.path),
            selection=asdict(self.rule),
            resolution=self._config.resolution,
            **lens_fields(self.lens),
        )

    def originals(self, source_indices: Iterable[int]) -> Iterator[OriginalImage]:
        """Yield these frames, upright, at the size of the video, as JPEG of quality 95. Decodes once more.

        Raises:
            ValueError: the indices do not ascend.
            InputError: a frame cannot be decoded, although it may have been before.
            ProcessLostError: the decoder process was killed from outside.
        """
        numbers = np.fromiter(source_indices, np.int64)
        if (np.diff(numbers) <= 0).any():
            raise ValueError(f"source indices must ascend, got {numbers}")
        if numbers.size:
            yield from self._originals(numbers)

    def _originals(self, numbers: NDArray[np.int64]) -> Iterator[OriginalImage]:
        sent = 0
        with DecoderProcess("originals", self.path, lens_fields(self.lens), numbers.tobytes()) as decoder:
            for record in decoder.records():
                if record.kind is Kind.IMAGE:
                    sent += 1
                    yield OriginalImage(
                        source_index=record.fields["source_index"], suffix=".jpg", data=bytes(record.payload)
                    )
        if sent < len(numbers):
            raise InputError(
                f"frame {numbers[sent]} of {self.path} cannot be decoded a second time",
                got=f"{sent} of {len(numbers)} frames",
                hint="Has the file changed?",
            )


def frame_of(record: Record, index: int) -> Frame:
    """The frame that a FRAME record holds."""
    fields = record.fields
    width, height = fields["original_size"]
    return Frame(
        index=index,
        source_index=fields["source_index"],
        timestamp_s=fields["timestamp_s"],
        image=np.frombuffer(record.payload, np.uint8).reshape(fields["shape"]),
        name=f"{fields['source_index']:06d}.jpg",
        original_size=(width, height),
    )
