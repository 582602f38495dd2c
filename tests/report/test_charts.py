"""Curves and bars: no peak is lost, and the budget is where it belongs."""

from __future__ import annotations

import re

import numpy as np
import pytest

from da3stream.report.charts import MOST_POINTS, Bar, bars, curve


def drawn(svg: str) -> np.ndarray:
    """(N, 2) pixels of the curve."""
    (points,) = re.findall(r'<polyline points="([^"]*)" class="curve"', svg)
    return np.array([point.split(",") for point in points.split()], dtype=float)


def chart(y: np.ndarray, budget: float | None = None) -> str:
    x = np.arange(len(y), dtype=float)
    return curve("Memory", x, y, x_text=str, y_text=lambda v: f"{v:.1f}", budget=budget, budget_name="--vram")


def test_a_single_peak_among_many_samples_is_drawn_and_points_are_bounded() -> None:
    y = np.ones(100_000)
    y[54_321] = 7
    svg = chart(y)
    pixels = drawn(svg)
    assert len(pixels) <= MOST_POINTS
    assert "largest sample 7.0" in svg
    heights = pixels[0, 1] - pixels[:, 1]
    assert np.argmax(heights) / len(pixels) == pytest.approx(0.54321, abs=1 / MOST_POINTS)
    assert (heights > 0).sum() == 1


def test_more_is_higher_and_later_is_further_right() -> None:
    pixels = drawn(chart(np.array([0.0, 1.0, 4.0])))
    assert (np.diff(pixels[:, 0]) > 0).all()
    assert np.allclose(np.diff(pixels[:, 1])[1] / np.diff(pixels[:, 1])[0], 3, atol=0.05)
    assert (np.diff(pixels[:, 1]) < 0).all()


def test_a_near_budget_is_a_line_and_a_far_one_is_words() -> None:
    near, far = chart(np.array([1.0, 2.0]), 3.0), chart(np.array([1.0, 2.0]), 100.0)
    assert 'class="budget"' in near
    assert "largest sample 2.0 of 3.0 --vram (67%)" in near
    assert 'class="budget"' not in far
    assert "largest sample 2.0 of 100.0 --vram (2%)" in far


def test_one_sample_and_a_curve_of_zeros_can_be_drawn() -> None:
    assert np.isfinite(drawn(chart(np.array([5.0])))).all()
    assert np.isfinite(drawn(chart(np.zeros(3)))).all()


def test_bars_are_as_long_as_their_values() -> None:
    html = bars([Bar(name="a", value=4.0, cells=("4 s",)), Bar(name="<b>", value=1.0, cells=())])
    assert re.findall(r"width:([\d.]+)%", html) == ["100.0", "25.0"]
    assert "&lt;b&gt;" in html
