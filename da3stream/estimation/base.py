"""What the pipeline asks of an estimator."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import KnownCameras, Prediction


@runtime_checkable
class GeometryEstimator(Protocol):
    """Turns the images of one chunk into poses, intrinsics and depth.

    An estimator may also have `close()`, called when the run ends.
    """

    name: str
    is_metric: bool

    def estimate(
        self, images: NDArray[np.uint8], *, indices: NDArray[Any], known_cameras: KnownCameras | None = None
    ) -> Prediction:
        """Estimate the geometry of a chunk.

        A pure function of its arguments: a cache keyed by `indices` may memoise, never decide.

        Args:
            images: (N, H, W, 3) uint8 RGB.
            indices: (N,) frame indices, the identity of the images within one run.
            known_cameras: what is known beforehand, for the same N images.
        """
        ...
