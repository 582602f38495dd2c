"""Pictures of paths in a plane: axes with round numbers, lines, dots and labels, drawn by OpenCV. A leaf.

Pictures are (H, W, 3) uint8 RGB and are drawn into.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image: TypeAlias = NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]

INK: Colour = (40, 40, 40)
START: Colour = (206, 66, 44)
_FAINT: Colour = (222, 222, 222)
_FRAME: Colour = (120, 120, 120)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SUBPIXEL_BITS = 4
_TICKS = 8


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Axes:
    """Maps the drawing plane to pixels, equally scaled in both directions."""

    left: int
    top: int
    right: int
    bottom: int
    centre: Array
    """(2,) point of the plane in the middle."""
    px_per_unit: float

    @classmethod
    def around(cls, points: Array, size: tuple[int, int]) -> Axes:
        """Axes in a picture of `size` (width, height) that leave a margin around (N, 2) points, N > 0."""
        left, top, right, bottom = 88, 64, size[0] - 28, size[1] - 68
        low, high = points.min(0), points.max(0)
        room = np.array([right - left, bottom - top]) * 0.9
        extent = np.maximum(high - low, 1e-9 + 1e-6 * np.abs(points).max())
        return cls(
            left=left,
            top=top,
            right=right,
            bottom=bottom,
            centre=(low + high) / 2,
            px_per_unit=float((room / extent).min()),
        )

    def pixels(self, points: Array) -> Array:
        """(N, 2) points of the plane to (N, 2) pixels; the second axis points up."""
        middle = np.array([(self.left + self.right) / 2, (self.top + self.bottom) / 2])
        return middle + (points - self.centre) * self.px_per_unit * [1, -1]

    def ticks(self, axis: int) -> Array:
        """Round numbers along axis 0 or 1 that lie within the frame; both axes share one spacing."""
        extent = np.array([self.right - self.left, self.bottom - self.top]) / self.px_per_unit
        step = _round_step(float(extent.max()) / _TICKS)
        low, high = self.centre[axis] - extent[axis] / 2, self.centre[axis] + extent[axis] / 2
        # Adding zero turns -0 into 0.
        return np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step + 0.0


def principal_plane(positions: Array) -> Array:
    """(3, 2) the two directions in which positions (N, 3), N > 0, extend most.

    That is the view from above for a level path. The sign of a principal direction is arbitrary: the larger
    excursion from the first position is positive.
    """
    # Three more rows, so that there are three directions for a single position, too. (All left singular
    # vectors would take 8 N^2 bytes.)
    centred = np.pad(positions - positions.mean(0), ((0, 3), (0, 0)))
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    plane = directions[:2].T
    reach = (positions - positions[0]) @ plane
    return np.asarray(plane * np.where(reach.max(0) >= -reach.min(0), 1, -1))


def blank(size: tuple[int, int]) -> Image:
    """A white picture of `size` (width, height)."""
    return np.full((size[1], size[0], 3), 255, np.uint8)


def draw_axes(image: Image, axes: Axes, unit: str) -> None:
    """Grid, numbers, and what the axes mean."""
    for axis in (0, 1):
        for value in axes.ticks(axis):
            _draw_tick(image, axes, axis, float(value))
    cv2.rectangle(image, (axes.left, axes.top), (axes.right, axes.bottom), _FRAME, 1)
    below = image.shape[0] - 16
    write(image, f"first principal direction [{unit}]", ((axes.left + axes.right) // 2 - 130, below), 0.55)
    upright = blank((320, 24))
    write(upright, f"second principal direction [{unit}]", (4, 17), 0.55)
    start = max((axes.top + axes.bottom) // 2 - 160, 0)
    image[start : start + 320, 6:30] = np.rot90(upright)[: image.shape[0] - start]


def _draw_tick(image: Image, axes: Axes, axis: int, value: float) -> None:
    point = axes.centre.copy()
    point[axis] = value
    x, y = (round(float(v)) for v in axes.pixels(point))
    label = f"{value:.6g}"
    (width, height), _ = cv2.getTextSize(label, _FONT, 0.5, 1)
    if axis == 0:
        cv2.line(image, (x, axes.top), (x, axes.bottom), _FAINT, 1)
        write(image, label, (x - width // 2, axes.bottom + height + 10), 0.5)
    else:
        cv2.line(image, (axes.left, y), (axes.right, y), _FAINT, 1)
        write(image, label, (axes.left - width - 8, y + height // 2), 0.5)


def draw_path(image: Image, pixels: Array, colour: Colour, thickness: int) -> None:
    """A line through (N, 2) pixels."""
    cv2.polylines(image, [_fixed(pixels)], False, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_dot(image: Image, pixel: Array, colour: Colour, radius_px: int = 6) -> None:
    """A disc around a (2,) pixel."""
    x, y = (int(value) for value in _fixed(pixel))
    cv2.circle(image, (x, y), radius_px << _SUBPIXEL_BITS, colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def write(image: Image, text: str, corner: tuple[int, int], size: float) -> None:
    """Text whose lower left corner lies at (x, y) pixels."""
    cv2.putText(image, text, corner, _FONT, size, INK, 1, cv2.LINE_AA)


def draw_legend(image: Image, axes: Axes, entries: list[tuple[str, Colour, int]]) -> None:
    """Name, colour and thickness of each line above the axes, in a row; thickness 0 means a dot."""
    x = axes.left
    for label, colour, thickness in entries:
        if thickness:
            cv2.line(image, (x, 46), (x + 34, 46), colour, thickness, cv2.LINE_AA)
        else:
            cv2.circle(image, (x + 24, 46), 6, colour, -1, cv2.LINE_AA)
        write(image, label, (x + 42, 51), 0.5)
        x += 66 + cv2.getTextSize(label, _FONT, 0.5, 1)[0][0]


def _fixed(pixels: Array) -> NDArray[np.int32]:
    """OpenCV's fixed-point pixels, whose centres are integers, of pixels whose centres are at halves."""
    return np.round((pixels - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, the first one not below `rough`."""
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9)))
