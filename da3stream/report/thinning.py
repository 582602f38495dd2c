"""What is shown of what there is too much of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly(rows: int, most: int) -> NDArray[np.int64]:
    """At most so many of 0 .. rows - 1, evenly, the first and the last one included."""
    if rows == 0:
        return np.zeros(0, dtype=np.int64)
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int64))
