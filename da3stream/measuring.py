"""What a run takes: seconds by stage, memory and disk, for run.json, the journal and the report."""

from __future__ import annotations

import platform
import resource
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from da3stream.disk import folder_bytes
from da3stream.estimation.da3.device import reserved_bytes
from da3stream.store import ResourceSample, Run

T = TypeVar("T")

_MEMORY = Path("/proc/self/statm")
_LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "opencv-python",
    "opencv-python-headless",
    "pycolmap",
    "av",
    "faiss-cpu",
)


class ResourceMeter:
    """Says what a run takes at a moment."""

    def __init__(self, run: Run) -> None:
        """Start. Walks through the run directory once; from then on what is written is added up."""
        self._run, self._began_s = run, time.time()
        self._before_bytes = folder_bytes(run.root) - run.files.written_bytes

    def sample(self) -> ResourceSample:
        """What the run takes now."""
        return self._sample(self._before_bytes + self._run.files.written_bytes)

    def exact_sample(self) -> ResourceSample:
        """The same; walks through the run directory, outputs included."""
        return self._sample(folder_bytes(self._run.root))

    def _sample(self, disk_bytes: int) -> ResourceSample:
        return ResourceSample(
            began_s=round(self._began_s, 3),
            time_s=round(time.time(), 3),
            rss_bytes=_resident_bytes(),
            disk_bytes=disk_bytes,
            gpu_bytes=reserved_bytes(),
        )


def _resident_bytes() -> int | None:
    """Resident memory of this process now; None where the system does not say (only Linux does)."""
    if not _MEMORY.exists():
        return None
    return int(_MEMORY.read_text().split()[1]) * resource.getpagesize()


def environment() -> dict[str, str]:
    """Versions of Python, of the libraries that results depend on, and the kind of machine."""
    installed = {
        distribution: metadata.version(distribution)
        for distribution in _LIBRARIES
        if _is_installed(distribution)
    }
    system = f"{platform.system()} {platform.machine()}"
    return {"python": platform.python_version(), **installed, "system": system}


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


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
