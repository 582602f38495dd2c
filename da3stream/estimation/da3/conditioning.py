"""Poses that are known beforehand: into the form that the network was trained with, and back out.

Everything here is numpy in float64; the poses are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import EstimationError
from da3stream.geometry.registration import umeyama
from da3stream.geometry.rigid3 import invert, to_4x4
from da3stream.geometry.sim3 import Sim3

Array = NDArray[np.float64]

MIN_UNIT = 0.1
"""Shortest unit of length, in that of the given poses: cameras that hardly move are not blown up."""
MIN_VIEWS_FOR_RANSAC = 10
RANSAC_ROUNDS = 10
RANSAC_SEED = 42
INLIER_MEDIANS = 2.5
"""A residual of so many medians is still an inlier: about 3.8 standard deviations per coordinate."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ConditionedGeometry:
    """Result of `align_to_given`: one frame, one scale."""

    depth: Array
    """(N, H, W)."""
    cam_from_world: Array
    """(N, 3, 4)."""
    world_is_given: bool
    """Whether the world frame and its scale are those of the given poses; otherwise the prediction's."""


def normalise_extrinsics(cam_from_world: NDArray[Any]) -> Array:
    """Given poses as the network's camera encoder expects them.

    The first camera becomes the world, and the median distance of the cameras from it (the lower one of the
    two in the middle, the first camera's own 0 included), if at least 0.1, the unit of length.

    Args:
        cam_from_world: (N, 3, 4) or (N, 4, 4) of any unit.

    Returns:
        (N, 4, 4).
    """
    poses = to_4x4(cam_from_world)
    relative = poses @ invert(poses[:1])
    distances = np.sort(np.linalg.norm(_centres(relative), axis=1))
    relative[:, :3, 3] /= max(MIN_UNIT, distances[(len(distances) - 1) // 2])
    return relative


def align_to_given(
    depth: NDArray[Any],
    cam_from_world: NDArray[Any],
    given_cam_from_world: NDArray[Any],
    *,
    keep_given: bool = True,
) -> ConditionedGeometry:
    """Put the network's depth and the given poses into one frame and scale.

    Args:
        depth: (N, H, W) predicted.
        cam_from_world: (N, 3, 4) or (N, 4, 4) predicted.
        given_cam_from_world: (N, 3, 4) or (N, 4, 4).
        keep_given: return the given poses as they are, and depth in their unit; otherwise the given poses
            mapped into the predicted frame, and depth as it is.

    Raises:
        EstimationError: the cameras of either side do not move, so that no scale can be told.
    """
    given = to_4x4(given_cam_from_world)
    predicted_from_given = fit_camera_centres(cam_from_world, given)
    depth = np.asarray(depth, dtype=np.float64)
    if keep_given:
        depth, poses = depth / predicted_from_given.scale, given
    else:
        poses = invert(predicted_from_given.move_pose(invert(given)))
    return ConditionedGeometry(depth=depth, cam_from_world=poses[:, :3], world_is_given=keep_given)


def fit_camera_centres(cam_from_a: NDArray[Any], cam_from_b: NDArray[Any]) -> Sim3:
    """The a_from_b that takes the camera centres of (N, 3 or 4, 4) poses of b onto those of a.

    Least squares, from ten views on only over those that agree: of ten fits to a random half of the views the
    one with the smallest median residual tells them (Rousseeuw, "Least median of squares regression", 1984).
    The draw has a fixed seed, so equal poses give equal results.

    Raises:
        EstimationError: the centres of either side coincide.
    """
    in_a, in_b = _centres(cam_from_a), _centres(cam_from_b)
    try:
        if len(in_a) < MIN_VIEWS_FOR_RANSAC:
            return umeyama(in_b, in_a)
        agreeing = _agreeing(in_a, in_b)
        return umeyama(in_b[agreeing], in_a[agreeing])
    except ValueError as error:
        raise EstimationError(
            "the given and the predicted camera positions cannot be aligned",
            got=f"{len(in_a)} cameras; {error}",
            expected="cameras that move, in the given poses and in the estimate",
            hint="Give poses with different positions, or none",
        ) from error


def _agreeing(in_a: Array, in_b: Array) -> NDArray[np.bool_]:
    """(N,) which of N corresponding centres agree with the similarity that most of them agree with."""
    # The generator that the published post-processing uses, so that the same views are drawn.
    generator = np.random.RandomState(RANSAC_SEED)
    samples = [generator.choice(len(in_a), len(in_a) // 2, replace=False) for _ in range(RANSAC_ROUNDS)]
    fits = [residuals for sample in samples if (residuals := _residuals(in_a, in_b, sample)) is not None]
    if not fits:
        raise ValueError("the points of no sample determine a similarity")
    best = min(fits, key=lambda residuals: float(np.median(residuals)))
    return best <= INLIER_MEDIANS * np.median(best)


def _residuals(in_a: Array, in_b: Array, sample: NDArray[Any]) -> Array | None:
    """(N,) distances in a after a fit to a sample of the points; None if it determines none."""
    try:
        fit = umeyama(in_b[sample], in_a[sample])
    except ValueError:
        return None
    return np.linalg.norm(in_a - fit.apply(in_b), axis=1)


def _centres(cam_from_world: NDArray[Any]) -> Array:
    """(N, 3) camera centres in the world."""
    return invert(to_4x4(cam_from_world))[:, :3, 3]
