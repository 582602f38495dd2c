"""Small charts: a curve against its budget, and bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.report.html import Html, element

Array = NDArray[np.float64]

MOST_POINTS = 400
_WIDTH, _HEIGHT = 420, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 12, 14, 34
_NEAR_BUDGET = 4.0
"""A budget more than so many times the peak is said in words: drawn, it would flatten the curve."""


def curve(
    title: str,
    x: Array,
    y: Array,
    *,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    budget: float | None,
    budget_name: str = "budget",
) -> Html:
    """A curve over x, from 0 up, with a dashed line for the budget.

    Args:
        title: what it shows.
        x: (N,) increasing, N > 0.
        y: (N,) values >= 0. Of many, the largest ones are kept.
        x_text: labels of the horizontal axis.
        y_text: labels of the vertical axis.
        budget: what y may be at most; None: there is none.
        budget_name: what the dashed line is.
    """
    x, y = _thinned(x, y)
    peak = float(y.max())
    is_drawn = budget is not None and budget <= _NEAR_BUDGET * peak
    top = 1.08 * max(peak, budget if is_drawn and budget is not None else 0.0, 1e-12)
    right = max(float(x[-1]), 1e-9)

    def place(values_x: Array, values_y: Array) -> list[tuple[float, float]]:
        px = _LEFT + values_x / right * (_WIDTH - _LEFT - _RIGHT)
        py = _HEIGHT - _BOTTOM - values_y / top * (_HEIGHT - _TOP - _BOTTOM)
        return list(zip(px.round(1).tolist(), py.round(1).tolist(), strict=True))

    points = " ".join(f"{px},{py}" for px, py in place(x, y))
    base = _HEIGHT - _BOTTOM
    area = f"{place(x[:1], y[:1])[0][0]},{base} {points} {place(x[-1:], y[-1:])[0][0]},{base}"
    parts = [
        *_axis(top, right, x_text, y_text, place),
        element("polygon", points=area, class_="area"),
        element("polyline", points=points, class_="curve"),
    ]
    if is_drawn and budget is not None:
        ((x1, y1), (x2, _)) = place(np.array([0.0, right]), np.array([budget, budget]))
        parts.append(element("line", x1=x1, x2=x2, y1=y1, y2=y1, class_="budget"))
    words = f"{title}: largest sample {y_text(peak)}"
    if budget is not None:
        words += f" of {y_text(budget)} {budget_name} ({peak / budget:.0%})"
    picture = element("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", class_="chart")
    return element("figure", element("figcaption", words), picture)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A horizontal bar."""

    name: str
    value: float
    """Its length, >= 0."""
    cells: tuple[str, ...]
    """What is said of it, in columns."""


def bars(rows: Sequence[Bar]) -> Html:
    """Horizontal bars, one below the other."""
    largest = max((row.value for row in rows), default=0.0) or 1.0
    lines = []
    for row in rows:
        bar = element("span", class_="bar", style=f"width:{100 * row.value / largest:.1f}%")
        lines.append(
            element(
                "div",
                element("span", row.name, class_="name"),
                element("span", bar, class_="track"),
                *(element("span", cell, class_="n") for cell in row.cells),
                class_="barline",
            )
        )
    return element("div", *lines, class_="bars")


def _axis(
    top: float,
    right: float,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    place: Callable[[Array, Array], list[tuple[float, float]]],
) -> list[Html]:
    parts = []
    for share in (0.0, 0.5, 1.0):
        value = share * top / 1.08
        ((x, y),) = place(np.array([0.0]), np.array([value]))
        parts.append(element("line", x1=x, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", y_text(value), x=x - 6, y=y + 4, text_anchor="end"))
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        ((x, y),) = place(np.array([share * right]), np.array([0.0]))
        parts.append(element("text", x_text(share * right), x=x, y=y + 20, text_anchor=anchor))
    return parts


def _thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """At most `MOST_POINTS`: the largest value of each group of neighbours, so that no peak is lost."""
    if len(x) <= MOST_POINTS:
        return x, y
    groups = np.array_split(np.arange(len(x)), MOST_POINTS)
    rows = np.array([group[np.argmax(y[group])] for group in groups])
    return x[rows], y[rows]
