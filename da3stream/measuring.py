"""Seconds per stage and peak memory of a run, for the `measured` part of its manifest."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimes:
    """Adds up wall seconds by stage."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the seconds of a `with` block towards a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - began

    def summary(self) -> dict[str, object]:
        """JSON values: seconds by stage, in all, and the peak of resident memory of this process."""
        return {
            "seconds": {name: round(seconds, 3) for name, seconds in self._seconds.items()},
            "seconds_total": round(time.perf_counter() - self._began, 3),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
