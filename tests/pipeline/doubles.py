"""Estimators and sources that watch how the pipeline uses them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from da3stream import Frame, Prediction
from da3stream.store import open_existing
from da3stream.synthetic.capture import SimulatedEstimator, SimulatedSource, SimulatedWorld

FRAMES = 70


class CountingEstimator:
    """The simulated estimator; counts its calls, and can be told to fail at one of them."""

    def __init__(self, world: SimulatedWorld, level: float = 0.0, fail_at: int | None = None) -> None:
        self._inner = SimulatedEstimator(world, seed=3, level=level)
        self.name, self.is_metric = "counting", False
        self.fail_at = fail_at
        self.chunks: list[tuple[int, ...]] = []

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        if len(self.chunks) == self.fail_at:
            raise KeyboardInterrupt
        self.chunks.append(tuple(int(i) for i in indices))
        return self._inner.estimate(images, indices=indices, known_cameras=known_cameras)


class ReportingSource:
    """A foreign source that remembers what it gave out."""

    def __init__(self, inner: SimulatedSource) -> None:
        self._inner = inner
        self.given = 0
        self.ended = False

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._inner:
            self.given += 1
            yield frame
        self.ended = True

    def size_hint(self) -> int | None:
        return None

    def identity(self) -> str:
        return self._inner.identity()


def stored_chunks(folder: Path) -> set[tuple[int, ...]]:
    """The frames of every chunk that a run directory has."""
    stored = open_existing(folder)
    stored.close()
    return {record.chunk.frames for record in stored.chunks.values()}
