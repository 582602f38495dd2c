"""Thresholds from the distribution of similarities."""

from __future__ import annotations

import numpy as np
import pytest

from da3stream.loop_closure.similarity import Histogram, loop_threshold


def histogram(*samples: np.ndarray) -> Histogram:
    found = Histogram()
    for one in samples:
        found.add(one.astype(np.float32))
    return found


def normal(mean: float, sigma: float, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sigma, count)


ALIKE = histogram(np.full(50, 0.99))


def test_quantiles() -> None:
    samples = np.append(np.linspace(-0.5, 0.5, 1001), np.nan)
    assert histogram(samples).quantile(0.5) == pytest.approx(0, abs=1e-3)
    assert histogram(samples).quantile(0.95) == pytest.approx(0.45, abs=2e-3)
    assert histogram(samples).samples == 1001
    assert np.isnan(Histogram().quantile(0.5))


@pytest.mark.parametrize("rivals", [10, 100])
def test_the_best_of_unrelated_frames_exceeds_it_as_often_as_asked(rivals: int) -> None:
    threshold = loop_threshold(histogram(normal(0.1, 0.05, 50_000)), ALIKE, rivals=rivals, false_alarms=0.05)
    best = normal(0.1, 0.05, 4000 * rivals, seed=1).reshape(4000, rivals).max(axis=1)
    assert np.mean(best > threshold) == pytest.approx(0.05, abs=0.015)


def test_few_related_pairs_among_the_samples_change_little() -> None:
    pure = normal(0.1, 0.05, 50_000)
    mixed = histogram(pure, np.full(1000, 0.9))
    options = {"rivals": 100.0, "false_alarms": 0.01}
    change = loop_threshold(mixed, ALIKE, **options) - loop_threshold(histogram(pure), ALIKE, **options)
    assert 0 <= change < 0.03


def test_where_all_frames_are_related_it_stays_within_reach() -> None:
    room = histogram(np.random.default_rng(0).uniform(0, 0.9, 20_000))
    found = loop_threshold(room, histogram(np.full(50, 0.9)), rivals=100, false_alarms=0.01)
    assert found == pytest.approx((0.45 + 0.9) / 2, abs=0.01)


def test_nothing_is_known_from_few_samples() -> None:
    assert loop_threshold(histogram(normal(0, 0.1, 99)), ALIKE, rivals=1, false_alarms=0.01) == np.inf
    assert loop_threshold(histogram(normal(0, 0.1, 500)), Histogram(), rivals=1, false_alarms=0.01) == np.inf
