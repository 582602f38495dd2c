"""A picture of an estimated trajectory over the truth, seen from above."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.errors import ConfigError
from da3stream.evaluation.metrics import Evaluation

Array = NDArray[np.float64]
Image: TypeAlias = NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]

_INK: Colour = (40, 40, 40)
_FAINT: Colour = (222, 222, 222)
_TRUTH: Colour = (150, 150, 150)
_ESTIMATE: Colour = (24, 98, 188)
_START: Colour = (206, 66, 44)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SUBPIXEL_BITS = 4
_TICKS = 8


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Axes:
    """Maps the drawing plane to pixels, equally scaled in both directions."""

    left: int
    top: int
    right: int
    bottom: int
    centre: Array
    """(2,) point of the plane in the middle."""
    px_per_unit: float

    @classmethod
    def around(cls, points: Array, size: tuple[int, int]) -> _Axes:
        """Axes in a picture of `size` (width, height) that leave a margin around (N, 2) points."""
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


def draw_trajectories(
    evaluation: Evaluation, *, size: tuple[int, int] = (960, 720), unit: str = "units"
) -> Image:
    """(H, W, 3) uint8 RGB picture of width and height `size`.

    It shows the plane of the two directions in which the truth extends most, as the aligned estimate lies
    over it.

    Args:
        evaluation: what to draw.
        size: width and height in pixels.
        unit: what the truth is measured in, for the labels.
    """
    true, estimated = _principal_plane(evaluation)
    axes = _Axes.around(np.concatenate([true, estimated]), size)
    image = np.full((size[1], size[0], 3), 255, np.uint8)
    _draw_grid(image, axes)
    _draw_path(image, axes.pixels(true), _TRUTH, 5)
    _draw_path(image, axes.pixels(estimated), _ESTIMATE, 2)
    cv2.circle(
        image, _fixed(axes.pixels(true[:1]))[0], 6 << _SUBPIXEL_BITS, _START, -1, cv2.LINE_AA, _SUBPIXEL_BITS
    )
    _draw_labels(image, axes, evaluation, unit)
    return image


def save_plot(path: str | Path, evaluation: Evaluation) -> None:
    """Write the picture of `draw_trajectories`; the suffix of the path says the format.

    Raises:
        ConfigError: no picture can be written there.
    """
    try:
        written = cv2.imwrite(str(path), draw_trajectories(evaluation)[..., ::-1])
    except cv2.error as error:
        raise ConfigError(
            f"cannot write a picture to {path}: unknown format", expected="a name that ends in .png or .jpg"
        ) from error
    if not written:
        raise ConfigError(
            f"cannot write the picture {path}", hint="Does its folder exist, and may you write there?"
        )


def _principal_plane(evaluation: Evaluation) -> tuple[Array, Array]:
    """True and estimated positions (M, 2) along the truth's main directions, from its first frame."""
    origin = evaluation.true_positions[0]
    true = evaluation.true_positions - origin
    _, _, directions = np.linalg.svd(true - true.mean(0), full_matrices=True)
    plane = directions[:2].T
    # The sign of a principal direction is arbitrary: let the larger excursion from the start be positive.
    reach = true @ plane
    plane = plane * np.where(reach.max(0) >= -reach.min(0), 1, -1)
    return true @ plane, (evaluation.aligned_positions - origin) @ plane


def _draw_grid(image: Image, axes: _Axes) -> None:
    for axis in (0, 1):
        for value in axes.ticks(axis):
            point = axes.centre.copy()
            point[axis] = value
            x, y = (round(float(v)) for v in axes.pixels(point))
            label = f"{value:.6g}"
            (width, height), _ = cv2.getTextSize(label, _FONT, 0.5, 1)
            if axis == 0:
                cv2.line(image, (x, axes.top), (x, axes.bottom), _FAINT, 1)
                _write(image, label, (x - width // 2, axes.bottom + height + 10), 0.5)
            else:
                cv2.line(image, (axes.left, y), (axes.right, y), _FAINT, 1)
                _write(image, label, (axes.left - width - 8, y + height // 2), 0.5)
    cv2.rectangle(image, (axes.left, axes.top), (axes.right, axes.bottom), (120, 120, 120), 1)


def _draw_labels(image: Image, axes: _Axes, evaluation: Evaluation, unit: str) -> None:
    below = image.shape[0] - 16
    _write(image, f"first principal direction [{unit}]", ((axes.left + axes.right) // 2 - 130, below), 0.55)
    upright = np.full((24, 320, 3), 255, np.uint8)
    _write(upright, f"second principal direction [{unit}]", (4, 17), 0.55)
    start = max((axes.top + axes.bottom) // 2 - 160, 0)
    image[start : start + 320, 6:30] = np.rot90(upright)[: image.shape[0] - start]
    summary = (
        f"ATE {evaluation.ate.rmse:.3g} {unit} RMSE"
        f" ({evaluation.ate_percent:.2g} % of {evaluation.path_length:.4g} {unit}),"
        f" {evaluation.associated_frames} frames, {evaluation.alignment}"
    )
    _write(image, summary, (axes.left, 22), 0.55)
    x = axes.left
    for label, colour, thickness in (("truth", _TRUTH, 5), ("estimate", _ESTIMATE, 2), ("start", _START, 0)):
        if thickness:
            cv2.line(image, (x, 46), (x + 34, 46), colour, thickness, cv2.LINE_AA)
        else:
            cv2.circle(image, (x + 24, 46), 6, colour, -1, cv2.LINE_AA)
        _write(image, label, (x + 42, 51), 0.5)
        x += 150


def _draw_path(image: Image, pixels: Array, colour: Colour, thickness: int) -> None:
    cv2.polylines(image, [_fixed(pixels)], False, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _fixed(pixels: Array) -> NDArray[np.int32]:
    """OpenCV's fixed-point pixels, whose centres are integers, of pixels whose centres are at halves."""
    return np.round((pixels - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _write(image: Image, text: str, corner: tuple[int, int], size: float) -> None:
    cv2.putText(image, text, corner, _FONT, size, _INK, 1, cv2.LINE_AA)


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, the first one not below `rough`."""
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9)))
