"""The path from above as SVG: before and after loops, coloured by time, loops drawn as lines."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from da3stream.drawing import Axes, principal_plane
from da3stream.report.facts import Facts
from da3stream.report.html import Html, element
from da3stream.report.numbers import count, length, percent
from da3stream.report.thinning import evenly
from da3stream.scene import LoopClosure

Array = NDArray[np.float64]

WIDTH, LEAST_HEIGHT, MOST_HEIGHT = 720, 300, 620
_CUT = 44
"""Pixels at the top that `Axes` leaves for a legend; ours is below."""
MOST_POINTS = 1500
"""Of a path; evenly in time."""
MOST_LABELS = 300
"""Frames whose number appears under the pointer."""
MOST_LOOPS = 150
_VISIBLE_PIXELS = 0.5
PIECES = 64
"""Colours along the path."""
_TIME_COLOURS = ((59, 91, 219), (12, 133, 153), (47, 158, 68), (245, 159, 0), (224, 49, 49))


def path_map(facts: Facts) -> Html | None:
    """The map; None if no camera centre is known."""
    before, after = facts.positions_before, facts.positions_after
    path = before if after is None else after
    if path is None or not len(path):
        return None
    origin, plane = path[0], _plane_from_above(facts, path)
    shown = (path - origin) @ plane
    earlier = path_before(facts)
    chain = None if earlier is None else (earlier - origin) @ plane
    everything = shown if chain is None else np.concatenate([shown, chain])
    size = (WIDTH, _height(everything))
    axes = Axes.around(everything, size)
    parts = [
        *_grid(axes, size[1], facts.is_metric),
        *([] if chain is None else [_line(axes.pixels(chain[evenly(len(chain), MOST_POINTS)]), "before")]),
        *_coloured(axes.pixels(shown)),
        *_loops(facts, axes.pixels(shown), None if chain is None else axes.pixels(chain)),
        *_ends(axes.pixels(shown)),
        *_labels(facts, shown, axes.pixels(shown)),
    ]
    return element(
        "svg",
        element("title", "The path from above"),
        *parts,
        viewBox=f"0 {_CUT} {WIDTH} {size[1] - _CUT}",
        class_="map",
        role="img",
    )


def path_before(facts: Facts) -> Array | None:
    """(N, 3) camera centres before loops and optimisation; None if unknown, or if nothing is seen to move."""
    before, after = facts.positions_before, facts.positions_after
    if before is None or after is None:
        return None
    extent = float(np.linalg.norm(np.ptp(after, axis=0)))
    moved = float(np.linalg.norm(after - before, axis=1).max())
    return before if moved * WIDTH > _VISIBLE_PIXELS * extent else None


def time_colour(share: float) -> str:
    """Colour of a moment: blue at the start (0), red at the end (1)."""
    steps = np.linspace(0, 1, len(_TIME_COLOURS))
    red, green, blue = (
        round(float(np.interp(share, steps, [colour[part] for colour in _TIME_COLOURS]))) for part in range(3)
    )
    return f"#{red:02x}{green:02x}{blue:02x}"


def _plane_from_above(facts: Facts, path: Array) -> Array:
    """(3, 2) directions that point right and up in the picture, seen from above.

    Of a run that was set upright, they are the x and z axes of the world. Otherwise they are those in which
    the path extends most, turned so that the mean up vector of the cameras points to the reader.
    """
    alignment = facts.run.alignment
    if facts.trajectory is not None and alignment is not None and alignment.up is not None:
        return np.eye(3)[:, [0, 2]]
    plane = principal_plane(path)
    if facts.trajectory is not None:
        up = -facts.trajectory.world_from_cam[:, :3, 1].mean(0)
        if np.cross(plane[:, 0], plane[:, 1]) @ up < 0:
            plane = plane * [1, -1]
    return plane


def _height(points: Array) -> int:
    """Of the picture, for points (N, 2): as flat as they are, within limits."""
    width, height = np.ptp(points, axis=0)
    margins = 2 * _CUT + 44
    return int(np.clip(margins + (WIDTH - 116) * height / max(width, 1e-12), LEAST_HEIGHT, MOST_HEIGHT))


def _points(pixels: Array) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels.tolist())


def _line(pixels: Array, class_: str, **attributes: object) -> Html:
    return element("polyline", points=_points(pixels), class_=class_, **attributes)


def _coloured(pixels: Array) -> list[Html]:
    """The path in pieces of one colour each, which overlap in a point."""
    rows = evenly(len(pixels), MOST_POINTS)
    bounds = evenly(len(rows), PIECES + 1)
    return [
        _line(
            pixels[rows[start : stop + 1]],
            "after",
            stroke=time_colour((start + stop) / 2 / max(len(rows) - 1, 1)),
        )
        for start, stop in itertools.pairwise(bounds)
    ]


def _loops(facts: Facts, after: Array, before: Array | None) -> list[Html]:
    """Closed loops as lines on both paths, long before and short after; refused ones on the path after."""
    known = [loop for loop in facts.loops if loop.candidate.later < len(after)]
    refused = [loop for loop in known if not loop.is_accepted or loop.chunk in facts.unused_loops]
    closed = [loop for loop in known if loop.is_accepted and loop.chunk not in facts.unused_loops]
    return [
        *_pairs(refused, after, "refused"),
        *([] if before is None else _pairs(closed, before, "loop-before")),
        *_pairs(closed, after, "loop"),
    ]


def _pairs(loops: Sequence[LoopClosure], pixels: Array, class_: str) -> list[Html]:
    lines = []
    for row in evenly(len(loops), MOST_LOOPS):
        pair = loops[row].candidate
        title = element("title", f"frames {pair.earlier} and {pair.later}: {loops[row].reason or 'closed'}")
        (x1, y1), (x2, y2) = pixels[[pair.earlier, pair.later]].round(1).tolist()
        lines.append(element("line", title, x1=x1, y1=y1, x2=x2, y2=y2, class_=class_))
    return lines


def _ends(pixels: Array) -> list[Html]:
    ends = []
    for class_, row, share in (("start", 0, 0.0), ("end", -1, 1.0)):
        x, y = pixels[row].round(1).tolist()
        dot = element(
            "circle", cx=x, cy=y, r=7 if class_ == "start" else 5, fill=time_colour(share), class_=class_
        )
        ends.append(dot)
    return ends


def _labels(facts: Facts, plane: Array, pixels: Array) -> list[Html]:
    """Invisible dots that say which frame is under the pointer."""
    dots = []
    for row in evenly(len(pixels), MOST_LABELS).tolist():
        x, y = pixels[row].round(1).tolist()
        at = ", ".join(f"{value:.3g}" for value in plane[row])
        title = element("title", f"frame {row}, {facts.seconds_of(row):.2f} s, at {at}")
        dots.append(element("circle", title, cx=x, cy=y, r=6, class_="spot"))
    return dots


def _grid(axes: Axes, height: int, is_metric: bool) -> list[Html]:
    parts = []
    for axis in (0, 1):
        for value in axes.ticks(axis):
            parts += _tick(axes, axis, float(value))
    box = {"x": axes.left, "y": axes.top, "width": axes.right - axes.left, "height": axes.bottom - axes.top}
    unit = "metres" if is_metric else "units of the run"
    middle = (axes.left + axes.right) / 2
    return [
        *parts,
        element("rect", class_="frame", **box),
        element("text", unit, x=middle, y=height - 16, text_anchor="middle"),
    ]


def _tick(axes: Axes, axis: int, value: float) -> list[Html]:
    point = axes.centre.copy()
    point[axis] = value
    x, y = axes.pixels(point).round(1).tolist()
    text = f"{value:.6g}"
    if axis == 0:
        return [
            element("line", x1=x, x2=x, y1=axes.top, y2=axes.bottom, class_="grid"),
            element("text", text, x=x, y=axes.bottom + 22, text_anchor="middle"),
        ]
    return [
        element("line", x1=axes.left, x2=axes.right, y1=y, y2=y, class_="grid"),
        element("text", text, x=axes.left - 8, y=y + 5, text_anchor="end"),
    ]


def path_length(positions: Array) -> float:
    """Sum of the steps between the camera centres (N, 3)."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())


def drift_closed(facts: Facts) -> str | None:
    """How far the optimisation has moved the path at most, in words; None if that is not known."""
    before, after = facts.positions_before, facts.positions_after
    if before is None or after is None:
        return None
    moved = np.linalg.norm(after - before, axis=1)
    whole = path_length(after)
    share = f" ({percent(float(moved.max()) / whole)} of the path)" if whole > 0 else ""
    return f"{length(float(moved.max()), facts.is_metric)}{share}, at frame {count(int(moved.argmax()))}"


def legend(entries: Sequence[tuple[str, str]]) -> Html:
    """Class of a swatch, and what it means."""
    items = [element("span", element("i", class_=f"swatch {class_}"), text) for class_, text in entries]
    return element("p", *items, class_="legend")
