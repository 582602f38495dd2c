"""A picture of an estimated trajectory over the truth, seen from above."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

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
from da3stream.errors import ConfigError
from da3stream.evaluation.metrics import Evaluation

_TRUTH: Colour = (150, 150, 150)
_ESTIMATE: Colour = (24, 98, 188)


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
    origin, plane = evaluation.true_positions[0], principal_plane(evaluation.true_positions)
    true = (evaluation.true_positions - origin) @ plane
    estimated = (evaluation.aligned_positions - origin) @ plane
    axes = Axes.around(np.concatenate([true, estimated]), size)
    image = blank(size)
    draw_axes(image, axes, unit)
    draw_path(image, axes.pixels(true), _TRUTH, 5)
    draw_path(image, axes.pixels(estimated), _ESTIMATE, 2)
    draw_dot(image, axes.pixels(true[0]), START)
    draw_legend(image, axes, [("truth", _TRUTH, 5), ("estimate", _ESTIMATE, 2), ("start", START, 0)])
    write(image, _summary(evaluation, unit), (axes.left, 22), 0.55)
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


def _summary(evaluation: Evaluation, unit: str) -> str:
    return (
        f"ATE {evaluation.ate.rmse:.3g} {unit} RMSE"
        f" ({evaluation.ate_percent:.2g} % of {evaluation.path_length:.4g} {unit}),"
        f" {evaluation.associated_frames} frames, {evaluation.alignment}"
    )
