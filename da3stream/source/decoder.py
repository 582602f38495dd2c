"""The decoder process: `python -m da3stream.source.decoder MODE PATH`.

It reads one request record from its standard input, writes records to its standard output and ends. When its standard
input closes, the process that asked is gone, and it ends at once. It owns nothing that must be cleaned up, so it may be
killed at any time.

Decoding, conversion and writing overlap: one thread decodes and selects, a few convert, the main thread writes in order.
All three leave Python's lock to the others while they work.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from queue import Queue
from typing import Any, BinaryIO

from da3stream.errors import InputError, NoFramesError
from da3stream.source.orientation import Orientation
from da3stream.source.records import Kind, read_record, write_record
from da3stream.source.selection import FrameSelector, SelectionRule
from da3stream.source.video_decoding import DecodedFrame, VideoDecoder, orientation_of

_CONVERTERS = max(1, min(4, (os.cpu_count() or 1) // 2))
_FRAMES_AHEAD = 2 * _CONVERTERS + 2
"""Decoded frames that wait for conversion or writing: at most this many are alive beside the decoder's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Message:
    """A record that is ready to be written."""

    kind: Kind
    fields: dict[str, Any]
    payload: memoryview | bytes = b""


class _OrderedConversion:
    """Runs a function over decoded frames in threads; iterating gives the results in the order of the frames."""

    def __init__(self, frames: Iterator[DecodedFrame], convert: Callable[[DecodedFrame], _Message]) -> None:
        self._frames = frames
        self._convert = convert
        self._pending: Queue[Future[_Message] | None] = Queue(_FRAMES_AHEAD)
        self._converters = ThreadPoolExecutor(_CONVERTERS)

    def __iter__(self) -> Iterator[_Message]:
        threading.Thread(target=self._decode, daemon=True).start()
        while (future := self._pending.get()) is not None:
            yield future.result()

    def _decode(self) -> None:
        try:
            for decoded in self._frames:
                self._pending.put(self._converters.submit(self._convert, decoded))
        except BaseException as error:  # handed over to the main thread
            failed: Future[_Message] = Future()
            failed.set_exception(error)
            self._pending.put(failed)
        self._pending.put(None)


class _VideoReader:
    """One pass over a video."""

    def __init__(self, path: str, output: BinaryIO) -> None:
        self._path = path
        self._output = output
        self._decoder = VideoDecoder(path)
        self._orientation: Orientation | None = None
        self._sent = 0
        self._reached_end = False

    def send_description(self) -> None:
        """What the container and the first frame say."""
        for decoded in self._frames():
            self._send(_Message(kind=Kind.DESCRIPTION, fields=self._describe(decoded.frame)))
            return
        raise self._nothing_sent(SelectionRule())

    def send_frames(self, rule: SelectionRule, resolution: int) -> None:
        """The selected frames at processing size."""
        from da3stream.source.frame_scaling import processed_rgb

        def convert(decoded: DecodedFrame) -> _Message:
            image = processed_rgb(decoded.frame, self._turn, resolution)
            fields = {
                "source_index": decoded.source_index,
                "timestamp_s": decoded.timestamp_s,
                "shape": image.shape,
                "original_size": self._turn.upright_size(decoded.frame.width, decoded.frame.height),
            }
            return _Message(kind=Kind.FRAME, fields=fields, payload=memoryview(image).cast("B"))

        for message in _OrderedConversion(self._selected(rule), convert):
            self._send(message)
        if not self._sent:
            raise self._nothing_sent(rule)
        self._send_end()

    def send_originals(self, source_indices: set[int]) -> None:
        """The frames with these numbers as JPEG files."""
        from da3stream.source.frame_scaling import encoded_jpeg

        def convert(decoded: DecodedFrame) -> _Message:
            encoded = encoded_jpeg(decoded.frame, self._turn)
            return _Message(kind=Kind.IMAGE, fields={"source_index": decoded.source_index}, payload=encoded)

        for message in _OrderedConversion(self._numbered(source_indices), convert):
            self._send(message)
        self._send_end()

    def _selected(self, rule: SelectionRule) -> Iterator[DecodedFrame]:
        selector = FrameSelector(rule)
        for decoded in self._frames():
            if selector.take(decoded.elapsed_s):
                yield decoded
            if selector.is_finished:
                return

    def _numbered(self, source_indices: set[int]) -> Iterator[DecodedFrame]:
        last = max(source_indices)
        for decoded in self._frames():
            if decoded.source_index in source_indices:
                yield decoded
            if decoded.source_index >= last:
                return

    def _frames(self) -> Iterator[DecodedFrame]:
        for decoded in self._decoder:
            if self._orientation is None:
                self._orientation = orientation_of(decoded.frame)
                self._is_turned_oddly = self._orientation is None
            yield decoded
        self._reached_end = True
