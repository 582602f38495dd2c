"""What goes into an estimator beside the images, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.scene._checks import check_array, describe_arrays
from da3stream.scene.gaussians import FrameGaussians


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KnownCameras:
    """What is known of the images before estimation, at their resolution."""

    intrinsics: NDArray[np.float64] | None = None
    """(N, 3, 3) in pixels of the processing-resolution images, or None."""
    cam_from_world: NDArray[np.float64] | None = None
    """(N, 3, 4) world to camera, or None."""
    ignored: NDArray[np.bool_] | None = None
    """(N, H, W) True where an image shows what is not to be used, moving things for example, or None."""

    def __post_init__(self) -> None:
        if self.ignored is not None:
            check_array("ignored", self.ignored, (None, None, None), np.bool_)
        if self.intrinsics is not None:
            check_array("intrinsics", self.intrinsics, (None, 3, 3), np.floating)
        if self.cam_from_world is not None:
            check_array("cam_from_world", self.cam_from_world, (None, 3, 4), np.floating)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prediction:
    """What an estimator says of N images, in a frame and scale of its own (the submap frame)."""

    depth: NDArray[np.float32]
    """(N, h, w) z-depth, > 0 wherever confidence is > 0; any h, w with the aspect ratio of the images."""
    confidence: NDArray[np.float32]
    """(N, h, w), >= 0, larger is better, 0 = never use."""
    cam_from_submap: NDArray[np.float64]
    """(N, 3, 4) submap frame to camera."""
    intrinsics: NDArray[np.float64]
    """(N, 3, 3) in pixels of the depth maps; the centre of the top-left pixel is (0.5, 0.5)."""
    is_metric: bool
    """True if depth and translations are in metres."""
    sky: NDArray[np.bool_] | None = None
    """(N, h, w) True where the sky was recognised, or None."""
    descriptors: NDArray[np.float32] | None = None
    """(N, D) a place descriptor a frame, zero for a frame of which nothing is known; or None."""
    settled_intrinsics: NDArray[np.float64] | None = None
    """(3, 3) in pixels of the *images*: intrinsics that this chunk determined well enough for all later
    chunks to keep. The pipeline journals them and passes them on as `KnownCameras`. None: nothing settled."""
    gaussians: FrameGaussians | None = None
    """What the N frames see, in their cameras and in the unit of `depth`; None unless asked for."""
    warnings: tuple[str, ...] = ()
    """What went wrong on the way, in words for the report (a fallback was taken, say)."""

    def __post_init__(self) -> None:
        check_array("depth", self.depth, (None, None, None), np.floating)
        n, h, w = self.depth.shape
        check_array("confidence", self.confidence, (n, h, w), np.floating)
        check_array("cam_from_submap", self.cam_from_submap, (n, 3, 4), np.floating)
        check_array("intrinsics", self.intrinsics, (n, 3, 3), np.floating)
        if self.sky is not None:
            check_array("sky", self.sky, (n, h, w), np.bool_)
        if self.descriptors is not None:
            check_array("descriptors", self.descriptors, (n, None), np.floating)
        if self.settled_intrinsics is not None:
            check_array("settled_intrinsics", self.settled_intrinsics, (3, 3), np.floating)
        if self.gaussians is not None:
            check_array("gaussians.counts", self.gaussians.counts, (n,), np.integer)

    def __repr__(self) -> str:
        arrays = describe_arrays(
            depth=self.depth,
            confidence=self.confidence,
            cam_from_submap=self.cam_from_submap,
            intrinsics=self.intrinsics,
            sky=self.sky,
            descriptors=self.descriptors,
        )
        return f"Prediction({arrays}, is_metric={self.is_metric})"
