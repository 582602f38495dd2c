"""An estimator that is made when it is needed: a finished run needs none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.base import DevicePlan, GeometryEstimator, PlansMemory

if TYPE_CHECKING:
    from da3stream.scene import KnownCameras, Prediction


class EstimatorOnDemand:
    """Makes another estimator on first use and passes everything on to it."""

    def __init__(self, name: str, is_metric: bool, make: Callable[[], GeometryEstimator]) -> None:
        """`name` and `is_metric` are those of what `make` makes."""
        self.name, self.is_metric = name, is_metric
        self._make = make
        self._made: GeometryEstimator | None = None

    def prepare(self) -> GeometryEstimator:
        """Make it now, if it is not made yet."""
        if self._made is None:
            self._made = self._make()
        return self._made

    @property
    def weights(self) -> Mapping[str, Any] | None:
        """Identity of the weights; None for an estimator that has none."""
        return getattr(self.prepare(), "weights", None)

    @property
    def settles_intrinsics(self) -> bool:
        """See `GeometryEstimator`."""
        return getattr(self.prepare(), "settles_intrinsics", True)

    @property
    def predicts_gaussians(self) -> bool:
        """See `GeometryEstimator`."""
        return getattr(self.prepare(), "predicts_gaussians", False)

    @property
    def execution(self) -> Mapping[str, int] | None:
        """See `PlansMemory`; None for an estimator that has no choice."""
        return getattr(self.prepare(), "execution", None)

    @execution.setter
    def execution(self, execution: Mapping[str, int]) -> None:
        made = self.prepare()
        if isinstance(made, PlansMemory):
            made.execution = execution

    def plan(
        self, image_size: tuple[int, int], frames: int | None, *, beside_bytes: int = 0
    ) -> DevicePlan | None:
        """See `PlansMemory`; None for an estimator that has no limit."""
        made = self.prepare()
        if not isinstance(made, PlansMemory):
            return None
        return made.plan(image_size, frames, beside_bytes=beside_bytes)

    def estimate(
        self, images: NDArray[np.uint8], *, indices: NDArray[Any], known_cameras: KnownCameras | None = None
    ) -> Prediction:
        """See `GeometryEstimator.estimate`."""
        return self.prepare().estimate(images, indices=indices, known_cameras=known_cameras)

    def close(self) -> None:
        """Close it, if it was made and can be closed."""
        getattr(self._made, "close", lambda: None)()
