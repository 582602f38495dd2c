"""What the pipeline hands to estimators, and the checks of what comes back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from da3stream.config import EstimationConfig
from da3stream.errors import EstimationError
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.geometry.lens import LensCamera
from da3stream.scene import KnownCameras, Prediction


def known_cameras_for(
    original_sizes: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    config: EstimationConfig,
    settled: NDArray[np.float64] | None,
) -> KnownCameras | None:
    """The user's intrinsics at processing resolution, else those that an earlier chunk settled, else None.

    Args:
        original_sizes: (width, height) in pixels of the user's images, of N frames.
        image_size: (width, height) at processing resolution, of all of them.
        config: holds the user's intrinsics; with a distortion, images are undistorted ones.
        settled: (3, 3) in pixels at processing resolution.
    """
    if (numbers := config.camera_numbers) is not None:
        given = LensCamera.of(numbers, config.distortion)
        matrices = [
            rescale_intrinsics(given.pinhole(*size).matrix(), size, image_size) for size in original_sizes
        ]
        return KnownCameras(intrinsics=np.stack(matrices))
    if settled is not None:
        return KnownCameras(intrinsics=np.repeat(settled[None], len(original_sizes), axis=0))
    return None


def check_prediction(prediction: Prediction, name: str, frames: int) -> None:
    """Raise EstimationError unless a prediction is one of `frames` frames with finite, proper cameras."""
    problem = _problem(prediction, frames)
    if problem:
        raise EstimationError(f"the estimator {name!r} broke its contract: {problem}")


def _problem(prediction: Prediction, frames: int) -> str | None:
    if len(prediction.depth) != frames:
        return f"{len(prediction.depth)} depth maps for {frames} frames"
    if not (np.isfinite(prediction.cam_from_submap).all() and np.isfinite(prediction.intrinsics).all()):
        return "a camera is not finite"
    rotation = prediction.cam_from_submap[:, :, :3]
    if (
        np.abs(rotation @ np.swapaxes(rotation, -1, -2) - np.eye(3)).max() > 1e-3
        or np.linalg.det(rotation).min() < 0
    ):
        return "a rotation is not orthonormal"
    if prediction.intrinsics[:, [0, 1], [0, 1]].min() <= 0:
        return "a focal length is not positive"
    return None
