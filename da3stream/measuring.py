"""Seconds per stage and peak memory of a run, for the `measured` part of its manifest."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class StageTimes:
    """Adds up wall seconds by stage. Stages overlap: their sum may exceed the time that has passed."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()
        self._began = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the seconds of a `with` block towards a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began)

    def each(self, items: Iterable[T], name: str) -> Iterator[T]:
        """The same items; the seconds that they take to come count towards a stage."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def add(self, name: str, seconds: float) -> None:
        """Count seconds towards a stage; from any thread."""
        with self._lock:
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def summary(self) -> dict[str, object]:
        """JSON values: seconds by stage, in all, and the peak of resident memory of this process."""
        return {
            "seconds": {name: round(seconds, 3) for name, seconds in self._seconds.items()},
            "seconds_total": round(time.perf_counter() - self._began, 3),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
