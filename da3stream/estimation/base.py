"""What the pipeline asks of an estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the networks beside this file run without scipy
    from da3stream.scene import KnownCameras, Prediction


@dataclass(frozen=True, kw_only=True, slots=True)
class GaussianOptions:
    """Gaussians are wanted, and these."""

    most: int
    """In the whole run, at most."""
    coefficients: int
    """Of spherical harmonics for each colour: 1 or 9."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DevicePlan:
    """How an estimator means to keep within the memory of its device."""

    frames: int
    """The most frames that it takes at a time."""
    execution: Mapping[str, int]
    """How it cuts its work, in its own words."""
    planned_bytes: int
    """What the process will take on the device."""
    budget_bytes: int
    """What it may take."""


@runtime_checkable
class PlansMemory(Protocol):
    """An estimator whose device has little memory may have these, too."""

    execution: Mapping[str, int] | None
    """How the work is cut: `DevicePlan.execution`, or smaller after the memory was full once. Settable."""

    def plan(
        self, image_size: tuple[int, int], frames: int | None, *, beside_bytes: int = 0
    ) -> DevicePlan | None:
        """Choose how the work is cut.

        Args:
            image_size: (width, height) in pixels.
            frames: how many shall be estimated together; None: as many as possible.
            beside_bytes: what a place descriptor takes on the same device; the plan counts it.

        Returns:
            The plan, whose `frames` are at most those that were asked for; None if there is no limit.

        Raises:
            DeviceMemoryError: not even a few frames fit.
        """
        ...


@runtime_checkable
class GeometryEstimator(Protocol):
    """Turns the images of one chunk into poses, intrinsics and depth.

    An estimator may also have:

    - `close()`, called when the run ends;
    - what `PlansMemory` says;
    - `settles_intrinsics: bool`, False if no `Prediction.settled_intrinsics` of it will ever be anything but
      None. Without it, True is assumed: chunks are estimated one at a time until the cameras are settled,
      however many an executor could take;
    - `predicts_gaussians: bool`, True if all its predictions have `gaussians`, as `gs_ply` needs.

    With `--executor ray` it is pickled by Ray and sent to other processes before its first estimate.
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
