"""What the pipeline hands to estimators, and the checks of what comes back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from da3stream.config import EstimationConfig
from da3stream.errors import EstimationError
from da3stream.geometry import rigid3
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.geometry.lens import LensCamera
from da3stream.scene import KnownCameras, Prediction


def known_cameras_for(
    original_sizes: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    config: EstimationConfig,
    settled: NDArray[np.float64] | None,
    own_intrinsics: NDArray[np.float64] | None = None,
    world_from_cam: NDArray[np.float64] | None = None,
    ignored: NDArray[np.bool_] | None = None,
) -> KnownCameras | None:
    """The user's intrinsics at processing resolution, else the frames' own, else those that an earlier chunk
    settled; known poses.

    None if nothing is known.

    Args:
        original_sizes: (width, height) in pixels of the user's images, of N frames.
        image_size: (width, height) at processing resolution, of all of them.
        config: holds the user's intrinsics; with a distortion, images are undistorted ones.
        settled: (3, 3) in pixels at processing resolution.
        own_intrinsics: (N, 3, 3) in pixels at processing resolution, if each frame has a camera of its own.
        world_from_cam: (N, 4, 4) known poses, or None.
        ignored: (N, H, W) what of the images is not to be used, or None.
    """
    intrinsics = _known_intrinsics(original_sizes, image_size, config, settled, own_intrinsics)
    poses = None if world_from_cam is None else rigid3.invert(world_from_cam)[:, :3]
    if intrinsics is None and poses is None and ignored is None:
        return None
    return KnownCameras(intrinsics=intrinsics, cam_from_world=poses, ignored=ignored)


def _known_intrinsics(
    original_sizes: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    config: EstimationConfig,
    settled: NDArray[np.float64] | None,
    own_intrinsics: NDArray[np.float64] | None,
) -> NDArray[np.float64] | None:
    """(N, 3, 3) in pixels at processing resolution; arguments as of `known_cameras_for`."""
    if (numbers := config.camera_numbers) is not None:
        given = LensCamera.of(numbers, config.distortion)
        matrices = [
            rescale_intrinsics(given.pinhole(*size).matrix(), size, image_size) for size in original_sizes
        ]
        return np.stack(matrices)
    if own_intrinsics is not None:
        return own_intrinsics
    if settled is not None:
        return np.repeat(settled[None], len(original_sizes), axis=0)
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
