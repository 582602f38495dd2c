"""A small run with everything that a run has: loops, coarse chunks, native writers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import da3stream
from da3stream import load_config
from da3stream.store import files
from da3stream.store.filesystem import FileSystem
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedSource, SimulatedWorld
from tests.pipeline.doubles import CountingEstimator
from tests.pipeline.revisits import outputs_of, two_laps

CONFIG: dict[str, Any] = {
    "colmap_points": "dense",
    "chunk_size": 12,
    "coarse": 4,
    "confidence_percentile": 90,
}
__all__ = ["CONFIG", "capture", "outputs_of", "reconstruct", "through"]


def capture() -> SimulatedWorld:
    """Sixty frames: one and a half laps, with 9 fine chunks, 2 coarse ones and 3 loops."""
    return two_laps(60, 40)


class through:
    """Within this context all run directories are written through a file system."""

    def __init__(self, filesystem: FileSystem) -> None:
        self._other = filesystem

    def __enter__(self) -> None:
        self._own, files.FILE_SYSTEM = files.FILE_SYSTEM, self._other

    def __exit__(self, *_: object) -> None:
        files.FILE_SYSTEM = self._own


def reconstruct(
    world: SimulatedWorld,
    root: Path,
    filesystem: FileSystem,
    *,
    estimator: Any = None,
    own_places: bool = False,
    **options: Any,
) -> da3stream.Result:
    """The run, or what is missing of it. Places by the simulated descriptor, or as the options say."""
    with through(filesystem):
        return da3stream.reconstruct(
            SimulatedSource(world),
            root,
            config=load_config(None, {**CONFIG, **options}),
            estimator=estimator or CountingEstimator(world, level=1.0),
            descriptor=None if own_places else SimulatedDescriptor(world),
            resume=True,
        )


def open_descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))
