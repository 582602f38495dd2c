"""Which images of a long capture are enough to show all of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly_along_path(centres: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Choose images evenly over the distance travelled.

    Args:
        centres: (N, 3) camera centres in order.
        count: how many images to choose at most, >= 0.

    Returns:
        (K,) ascending rows, K <= count: all if N <= count, otherwise the images nearest to `count`
        equidistant places between start and end. Where the camera was so fast that one image is nearest to
        several places, it is chosen once. A camera that never moved is sampled evenly by index.
    """
    if len(centres) <= count:
        return np.arange(len(centres))
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    if not travelled[-1] > 0:
        travelled = np.arange(len(centres), dtype=np.float64)
    return np.unique(_nearest(travelled, np.linspace(0.0, travelled[-1], count)))


def _nearest(ascending: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the element of `ascending` (at least two) nearest to each wanted value."""
    right = np.clip(np.searchsorted(ascending, wanted), 1, len(ascending) - 1)
    return right - (wanted - ascending[right - 1] <= ascending[right] - wanted)
