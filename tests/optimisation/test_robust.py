"""Weights of graduated non-convexity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from da3stream.optimisation import robust


def test_the_weights_go_from_nearly_equal_to_all_or_nothing() -> None:
    squared = np.array([0.0, 0.5, 0.99, 1.01, 2.0, 100.0])
    np.testing.assert_array_equal(robust.truncated_weights(squared, 1.0, 1e6) > 0.5, squared < 1)
    nearly_convex = robust.truncated_weights(squared, 1.0, 1e-3)
    assert nearly_convex[0] == 1
    assert (np.diff(nearly_convex) <= 0).all()
    assert nearly_convex[-1] > 0


@pytest.mark.parametrize("factor", [0.01, 9.0, 1e6])
def test_the_threshold_follows_the_median_within_bounds(factor: float) -> None:
    """Also when a third of the residuals is absurd."""
    squared = factor * chi2.ppf((np.arange(3001) + 0.5) / 3001, 3)
    least, most = chi2.ppf(robust.INLIER_QUANTILE, 3), 50 * chi2.ppf(robust.INLIER_QUANTILE, 3)
    limit = robust.threshold(squared, 3, 50.0)
    np.testing.assert_allclose(limit, np.clip(factor * chi2.ppf(0.999, 3), least, most), rtol=2e-2)
    squared[2001:] = 1e12
    assert limit <= robust.threshold(squared, 3, 50.0) <= min(3 * limit, most)


def test_a_mean_is_annealed_past_its_outliers() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=70), rng.uniform(20, 60, 30)])
    estimates = []

    def step(weights: np.ndarray) -> np.ndarray:
        estimates.append(np.average(values, weights=weights))
        return np.square(values - estimates[-1])

    weights = robust.anneal(step, np.ones(100), np.ones(100, dtype=bool), 1, 1.0)
    assert abs(estimates[0]) > 5
    assert abs(estimates[-1]) < 0.4
    np.testing.assert_array_equal(weights[70:], 0)
    assert weights[:70].mean() > 0.95


def test_edges_that_are_not_judged_keep_their_weight() -> None:
    values = np.array([0.0, 0.1, 50.0, 60.0])
    judged = np.array([True, True, False, True])
    weights = robust.anneal(lambda w: np.square(values), np.array([1.0, 1.0, 0.5, 1.0]), judged, 1, 1.0)
    np.testing.assert_array_equal(weights, [1, 1, 0.5, 0])
