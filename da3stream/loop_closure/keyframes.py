"""Which earlier frames a new chunk is reconstructed together with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def choose_keyframes(
    matches: NDArray[np.int64],
    similarities: NDArray[np.float32],
    *,
    threshold: float,
    spacing: int,
    most: int,
) -> tuple[int, ...]:
    """The frames most similar to any query, spread: the best first, then the best of those far from it, ...

    Args:
        matches: (Q, k) earlier frames that look like each query; -1 where there are fewer.
        similarities: (Q, k) theirs; NaN where there is none.
        threshold: what is not more similar is not chosen.
        spacing: smallest distance of two chosen frames, in frames.
        most: how many are chosen at most.

    Returns indices in increasing order.
    """
    good = (matches >= 0) & (similarities > threshold)
    frames, similarity = matches[good], similarities[good]
    chosen: list[int] = []
    for frame in frames[np.lexsort((frames, -similarity))]:
        if len(chosen) == most:
            break
        if all(abs(frame - other) >= spacing for other in chosen):
            chosen.append(int(frame))
    return tuple(sorted(chosen))
