"""What similarity means in this very video: thresholds from its own distribution, no constant.

Every frame is compared with frames spread over the past. Even where the video comes back, few of these show
the same place, so their median and spread describe unrelated frames. The best of n unrelated frames is better
than a typical one; by how much follows from the law of extremes: if a similarity exceeds x with probability
Q(x), the best of n independent ones does with about n Q(x). The threshold is where this equals the wanted
rate of false alarms.

In a single room nearly all frames are related, and that threshold would be out of reach. Consecutive frames
say what related frames look like: the threshold never lies above halfway from the median to theirs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

_BINS = 4000
_MIN_SAMPLES = 100
_ONE_SIGMA, _TAIL = 0.8413, 0.95


class Histogram:
    """Counts of similarities in [-1, 1]: order does not matter, memory is constant."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)

    def add(self, similarities: NDArray[np.float32]) -> None:
        """Count similarities of any shape; NaN is left out."""
        known = similarities[np.isfinite(similarities)]
        bins = np.clip(((known + 1) * (_BINS / 2)).astype(np.int64), 0, _BINS - 1)
        self._counts += np.bincount(bins, minlength=_BINS)

    @property
    def samples(self) -> int:
        """How many similarities were counted."""
        return int(self._counts.sum())

    def quantile(self, level: float) -> float:
        """Similarity that this share of the samples does not exceed; NaN without samples."""
        if not self.samples:
            return float("nan")
        chosen = np.searchsorted(np.cumsum(self._counts), level * self.samples)
        return float((chosen + 0.5) * 2 / _BINS - 1)


def loop_threshold(
    unrelated: Histogram, consecutive: Histogram, *, rivals: float, false_alarms: float
) -> float:
    """Similarity above which two frames may show the same place; infinite with fewer than 100 samples.

    The spread of unrelated similarities is the larger of two estimates from their upper half (quantiles at 84
    and at 95 percent, as those of a normal distribution), since descriptors of real images have a heavier
    tail than a normal one.

    Args:
        unrelated: similarities of frames far apart in time.
        consecutive: similarities of frames that follow each other.
        rivals: number of independent frames that every frame is compared with.
        false_alarms: probability that the best of `rivals` unrelated frames exceeds the threshold.
    """
    if unrelated.samples < _MIN_SAMPLES or not consecutive.samples:
        return float("inf")
    median = unrelated.quantile(0.5)
    spread = max(
        unrelated.quantile(_ONE_SIGMA) - median,
        (unrelated.quantile(_TAIL) - median) / float(ndtri(_TAIL)),
        2 / _BINS,
    )
    extreme = median - spread * float(ndtri(min(0.5, false_alarms / max(1.0, rivals))))
    return min(extreme, (median + consecutive.quantile(0.5)) / 2)
