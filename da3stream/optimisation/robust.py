"""Graduated non-convexity with truncated least squares: wrong edges end with weight 0, right ones with 1.

Yang, Antonante, Tzoumas and Carlone, "Graduated Non-Convexity for Robust Spatial Perception", RA-L 2020,
equations 12 to 14. What is called an outlier depends on the edges' own covariances, whose common factor is
estimated along the way, within bounds: information may still be overstated when the distortion inside submaps
has been added to it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

Array = NDArray[np.float64]

INLIER_QUANTILE = 0.9999
"""Honest right edges are refused once in 10,000; wrong ones are off by far more."""
MEDIANS = 7.0
"""99.9 % quantile over median of chi^2 with 3 degrees of freedom; of 7, a fit absorbs a few."""
_FIRST_CONTROL = 1e-3
"""The start is never more convex than this: what disagrees by 500 thresholds is out at once."""
_CONTROL_GROWTH = 2.0
_MAX_ROUNDS = 25
_ROUNDING = 1e-30
"""A smaller residual is 0."""


def threshold(squared: Array, dof: int, max_variance_factor: float) -> float:
    """Squared residual up to which an edge is an inlier.

    A multiple of the (lower) median of `squared`, but at least the quantile of chi^2 and at most
    `max_variance_factor` times that. Breaks down when half of the edges are wrong.
    """
    lower_median = float(np.sort(squared)[(len(squared) - 1) // 2])
    quantile = float(chi2.ppf(INLIER_QUANTILE, dof))
    return float(np.clip(MEDIANS * lower_median, quantile, max_variance_factor * quantile))


def truncated_weights(squared: Array, limit: float, control: float) -> Array:
    """(E,) weights in 0 .. 1 at a control parameter mu: nearly convex at 0, truncated at infinity."""
    ratio = np.maximum(squared / limit, _ROUNDING)
    return np.clip(np.sqrt(control * (control + 1) / ratio) - control, 0.0, 1.0)


def anneal(
    step: Callable[[Array], Array],
    weights: Array,
    judged: NDArray[np.bool_],
    dof: int,
    max_variance_factor: float,
) -> Array:
    """Final weights (E,), 0 or 1.

    Args:
        step: improves the estimate with (E,) weights and returns the (E,) squared residuals in units of their
            standard deviation.
        weights: (E,) first weights; those of edges that are not judged stay.
        judged: (E,) which edges may be wrong.
        dof: degrees of freedom of a residual.
        max_variance_factor: see `threshold`.
    """
    squared = step(weights)
    if not judged.any():
        return weights
    control = 0.0
    for _ in range(_MAX_ROUNDS):
        limit = threshold(squared[judged], dof, max_variance_factor)
        worst = float(squared[judged].max())
        if control == 0.0:
            control = max(limit / (2 * worst - limit), _FIRST_CONTROL) if 2 * worst > limit else np.inf
        if np.isinf(control):
            break
        weights = weights.copy()
        weights[judged] = truncated_weights(squared[judged], limit, control)
        squared = step(weights)
        control *= _CONTROL_GROWTH
        if control > 1.0 and np.isin(weights[judged], (0.0, 1.0)).all():
            break
    limit = threshold(squared[judged], dof, max_variance_factor)
    return np.where(judged, (squared <= limit).astype(np.float64), weights)
