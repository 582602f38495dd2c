"""Converts decoded frames in several threads, and keeps their order."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Queue
from typing import Any

from da3stream.source.records import Kind
from da3stream.source.video_decoding import DecodedFrame

_CONVERTERS = max(1, min(4, (os.cpu_count() or 1) // 2))
_FRAMES_AHEAD = _CONVERTERS + 2
"""Frames that wait for conversion or for the reader: the memory of this process is bounded by it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A record that is ready to be written."""

    kind: Kind
    fields: dict[str, Any]
    payload: memoryview | bytes


class OrderedConversion:
    """Runs a function over decoded frames in threads; iterating gives the results in the frames' order."""

    def __init__(self, frames: Iterator[DecodedFrame], convert: Callable[[DecodedFrame], Message]) -> None:
        self._frames = frames
        self._convert = convert
        self._pending: Queue[Future[Message] | None] = Queue(_FRAMES_AHEAD)
        self._converters = ThreadPoolExecutor(_CONVERTERS)

    def __iter__(self) -> Iterator[Message]:
        threading.Thread(target=self._decode, daemon=True).start()
        while (future := self._pending.get()) is not None:
            yield future.result()

    def _decode(self) -> None:
        try:
            for decoded in self._frames:
                self._pending.put(self._converters.submit(self._convert, decoded))
        except BaseException as error:  # raised again in the main thread
            failed: Future[Message] = Future()
            failed.set_exception(error)
            self._pending.put(failed)
        self._pending.put(None)
