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
        travelled: (N,) distance travelled up to every frame, never decreasing, see `travelled_chunks`.
        min_travelled: in its unit. A camera that stands still sees the same place without closing a loop.
    """
    in_time = np.asarray(frames, dtype=np.int64) - min_gap + 1
    on_path = np.searchsorted(travelled, travelled[frames] - min_travelled, side="right")
    return np.maximum(0, np.minimum(in_time, on_path)).astype(np.int64)


def travelled_chunks(centres: NDArray[np.float64], chunk_frames: int) -> NDArray[np.float64]:
    """(N,) distance travelled along camera centres (N, 3), in median distances of a chunk.

    The unit makes it independent of the arbitrary scale of the first submap. A camera that never moves has
    travelled nowhere: zeros.
    """
    steps = np.linalg.norm(np.diff(centres, axis=0, prepend=centres[:1]), axis=1)
    path = np.cumsum(steps)
    starts = np.arange(0, max(1, len(path) - chunk_frames + 1), chunk_frames)
    ends = np.minimum(starts + chunk_frames, len(path)) - 1
    unit = float(np.median(path[ends] - path[starts])) if len(path) else 0.0
    return path / unit if unit > 0 else np.zeros_like(path)
