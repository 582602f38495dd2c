"""The path from above, before and after loops were closed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from da3stream.drawing import (
    START,
    Axes,
    Colour,
    Image,
    blank,
    draw_axes,
    draw_dot,
    draw_legend,
    draw_path,
    principal_plane,
    write,
)

Array = NDArray[np.float64]
Pair = tuple[int, int]

BEFORE: Colour = (170, 170, 170)
AFTER: Colour = (24, 98, 188)
ACCEPTED: Colour = (38, 150, 70)
REFUSED: Colour = (226, 140, 30)
_END: Colour = (110, 50, 140)


def draw_optimised(
    before: Array,
    after: Array,
    *,
    accepted: Sequence[Pair],
    refused: Sequence[Pair],
    is_metric: bool,
    size: tuple[int, int] = (960, 720),
) -> Image:
    """(H, W, 3) uint8 RGB picture of both paths, in the plane in which the optimised one extends most.

    That plane (the first two principal components of the camera centres) is the view from above for a camera
    that is carried or driven over level ground, however the world frame lies; it may be mirrored. Both paths
    are drawn in the world frame, which the first frame fixes, so that they start together. An accepted loop
    is a line on either path: long before, short after, if it was closed. A refused one is a line on the
    optimised path.

    Args:
        before: (N, 3) camera centres in the world as the chain of chunks places them.
        after: (N, 3) camera centres in the world after the optimisation.
        accepted: frames of the loops that were accepted.
        refused: frames of those that were not.
        is_metric: whether lengths are in metres.
        size: width and height in pixels.
    """
    # Without frames an empty picture is drawn.
    origin, plane = (after[0], principal_plane(after)) if len(after) else (np.zeros(3), np.eye(3)[:, :2])
    chain, optimised = (before - origin) @ plane, (after - origin) @ plane
    axes = Axes.around(np.concatenate([np.zeros((1, 2)), chain, optimised]), size)
    image = blank(size)
    draw_axes(image, axes, "m" if is_metric else "units")
    draw_path(image, axes.pixels(chain), BEFORE, 3)
    _draw_pairs(image, axes.pixels(chain), accepted, ACCEPTED, 1)
    draw_path(image, axes.pixels(optimised), AFTER, 2)
    _draw_pairs(image, axes.pixels(optimised), refused, REFUSED, 1)
    _draw_pairs(image, axes.pixels(optimised), accepted, ACCEPTED, 3)
    for point, colour, radius_px in ((optimised[:1], START, 7), (optimised[-1:], _END, 5)):
        for pixel in axes.pixels(point):
            draw_dot(image, pixel, colour, radius_px)
    _draw_names(image, axes, len(after), len(accepted), len(refused))
    return image


def _draw_pairs(image: Image, pixels: Array, pairs: Sequence[Pair], colour: Colour, thickness: int) -> None:
    for pair in pairs:
        draw_path(image, pixels[list(pair)], colour, thickness)


def _draw_names(image: Image, axes: Axes, frames: int, accepted: int, refused: int) -> None:
    write(image, f"Trajectory of {frames} frames before and after optimisation", (axes.left, 22), 0.55)
    draw_legend(
        image,
        axes,
        [
            ("chain of chunks", BEFORE, 3),
            ("optimised", AFTER, 2),
            (f"loops ({accepted})", ACCEPTED, 3),
            (f"refused ({refused})", REFUSED, 1),
            ("start", START, 0),
            ("end", _END, 0),
        ],
    )
