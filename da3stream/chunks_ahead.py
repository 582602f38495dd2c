"""Chunks are loaded and estimated while earlier ones are stored, joined and searched."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias

from da3stream.chunking import Chunker, LoadedWindow
from da3stream.executors import Estimate


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BegunChunk:
    """The frames of a chunk, and what is being made of them."""

    window: LoadedWindow
    estimate: Future[Estimate] | None
    """None: the chunk is stored already."""


Begin: TypeAlias = Callable[[LoadedWindow], BegunChunk]


class ChunksAhead:
    """Iterates over chunks in their order, and begins later ones in the meantime, in a thread of its own.

    Bounded: `ahead` chunks are loaded beyond the one that was taken last, and `capacity` of them estimated at
    a time. With `ahead` = 0 a chunk is loaded when it is asked for: for chunks that depend on what became of
    the one before.
    """

    def __init__(
        self,
        chunks: Chunker,
        begin: Begin,
        *,
        ahead: int,
        capacity: Callable[[], int],
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        """Start.

        Args:
            chunks: what to load.
            begin: has a loaded chunk estimated; called in the chunks' order.
            ahead: chunks that may wait.
            capacity: how many may be estimated at a time; asked before each.
            leave: called when no more is wanted; ends what the source may be waiting for.
        """
        self._chunks, self._begin, self._leave = chunks, begin, leave
        self._ahead, self._capacity = ahead, capacity
        self._change = threading.Condition()
        self._start()

    def __enter__(self) -> ChunksAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop loading, and leave the source."""
        with self._change:
            self._is_stopping = True
        self._leave()
        self._stop()
        self._chunks.close()

    def __iter__(self) -> ChunksAhead:
        return self

    def __next__(self) -> BegunChunk:
        """The next chunk, begun. Raises what loading it raised."""
        with self._change:
            self._room += 1
            self._change.notify_all()
            self._change.wait_for(lambda: self._begun or self._has_ended)
            if self._begun:
                return self._begun.popleft()
            if self._failure is not None:
                raise self._failure
            raise StopIteration

    def retry(self, failed: BegunChunk) -> None:
        """Take the chunk that was taken last apart, and those behind it: its frames are grouped anew.

        Raises what loading raised, if it has failed since.
        """
        self._stop()
        if self._failure is not None:
            raise self._failure
        for begun in (*reversed(self._begun), failed):
            if begun.estimate is not None:
                begun.estimate.cancel()
            self._chunks.give_back(begun.window)
        self._start()

    def _start(self) -> None:
        self._room = self._ahead
        self._begun: deque[BegunChunk] = deque()
        self._in_flight: set[Future[Estimate]] = set()
        self._has_ended = self._is_stopping = False
        self._failure: BaseException | None = None
        self._feeder = threading.Thread(target=self._feed, name="chunks ahead", daemon=True)
        self._feeder.start()

    def _stop(self) -> None:
        with self._change:
            self._is_stopping = True
            self._change.notify_all()
        self._feeder.join()

    def _feed(self) -> None:
        try:
            while self._wait_for(lambda: self._room > 0):
                window = next(self._chunks, None)
                if window is None or not self._wait_for(self._may_begin):
                    if window is not None:
                        self._chunks.give_back(window)
                    break
                self._add(self._begin(window))
        except BaseException as error:  # raised again where the chunk is asked for
            self._failure = error
        with self._change:
            self._has_ended = True
            self._change.notify_all()

    def _add(self, begun: BegunChunk) -> None:
        with self._change:
            self._room -= 1
            self._begun.append(begun)
            if begun.estimate is not None:
                self._in_flight.add(begun.estimate)
            self._change.notify_all()
        if begun.estimate is not None:
            begun.estimate.add_done_callback(self._count_back)

    def _count_back(self, estimate: Future[Estimate]) -> None:
        """A chunk that failed is in flight for ever: nothing behind it begins before `retry`.

        One that was begun before a `retry`, and ends after it, does not count any more.
        """
        if not estimate.cancelled() and estimate.exception() is None:
            with self._change:
                self._in_flight.discard(estimate)
                self._change.notify_all()

    def _may_begin(self) -> bool:
        return len(self._in_flight) < self._capacity()

    def _wait_for(self, condition: Callable[[], bool]) -> bool:
        """Wait until it holds. False: it is time to stop."""
        with self._change:
            self._change.wait_for(lambda: self._is_stopping or condition())
            return not self._is_stopping
