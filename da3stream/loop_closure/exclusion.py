"""Which earlier frames are too near, in time or along the path, to close a loop with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def search_limits(
    frames: NDArray[Any], *, min_gap: int, travelled: NDArray[np.float64], min_travelled: float
) -> NDArray[np.int64]:
    """(M,) for each of `frames` (M,): only frames before this one are far enough away.

    Args:
        frames: frame indices below N.
        min_gap: in frames. Nearer ones are joined by overlapping chunks anyway.
        travelled: (N,) distance travelled up to every frame, never decreasing, see `TravelledPath`.
        min_travelled: in its unit. A camera that stands still sees the same place without closing a loop.
    """
    in_time = np.asarray(frames, dtype=np.int64) - min_gap + 1
    on_path = np.searchsorted(travelled, travelled[frames] - min_travelled, side="right")
    return np.maximum(0, np.minimum(in_time, on_path)).astype(np.int64)


class TravelledPath:
    """Distance travelled along camera centres as they come, in median distances of a chunk.

    The unit makes it independent of the arbitrary scale of the first submap. A camera that never moves has
    travelled nowhere.
    """

    def __init__(self, chunk_frames: int) -> None:
        """`chunk_frames` frames make a chunk; the chunks of the unit begin every so many frames."""
        self._chunk = chunk_frames
        self._path = np.zeros(0)
        self._last: NDArray[np.float64] | None = None
        self._of_chunks = np.zeros(0)

    def add(self, centres: NDArray[np.float64]) -> None:
        """Take the (N, 3) centres of the next frames."""
        if not len(centres):
            return
        before = centres[:1] if self._last is None else self._last[None]
        steps = np.linalg.norm(np.diff(centres, axis=0, prepend=before), axis=1)
        so_far = self._path[-1] if len(self._path) else 0.0
        self._path = np.concatenate([self._path, so_far + np.cumsum(steps)])
        self._last = centres[-1]
        starts = np.arange(len(self._of_chunks), len(self._path) // self._chunk) * self._chunk
        new = self._path[starts + self._chunk - 1] - self._path[starts]
        self._of_chunks = np.concatenate([self._of_chunks, new])

    @property
    def in_chunks(self) -> NDArray[np.float64]:
        """(N,) up to every frame so far; zeros if a typical chunk does not move."""
        # Before the first chunk is full, it is what there is of it.
        chunks = self._of_chunks if len(self._of_chunks) else self._path[-1:]
        unit = float(np.median(chunks)) if len(chunks) else 0.0
        return self._path / unit if unit > 0 else np.zeros_like(self._path)
