"""An estimator that is elsewhere: what the pipeline asks of it is asked of the actors that have it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.base import DevicePlan
from da3stream.executors.base import Estimate, EstimationTask

if TYPE_CHECKING:
    from da3stream.executors.actor import Description
    from da3stream.scene import KnownCameras, Prediction


class _Elsewhere(Protocol):
    """What has the estimator: `RayExecutor`."""

    def start(self) -> Description: ...

    def submit(self, task: EstimationTask) -> Future[Estimate]: ...

    def plan(
        self, image_size: tuple[int, int], frames: int | None, beside_bytes: int
    ) -> DevicePlan | None: ...


class RemoteEstimator:
    """Implements `GeometryEstimator` and `PlansMemory`. Everything but its name starts the actors."""

    def __init__(self, elsewhere: _Elsewhere, name: str, is_metric: bool) -> None:
        """`name` and `is_metric` are those of the estimator, as far as they are known before it is made."""
        self.name, self.is_metric = name, is_metric
        self._elsewhere = elsewhere
        self._execution: Mapping[str, int] | None = None
        self._smaller: list[tuple[Mapping[str, int] | None, Mapping[str, int]]] = []
        self._lock = threading.Lock()

    @property
    def weights(self) -> Mapping[str, Any] | None:
        """Identity of the weights; None for an estimator that has none."""
        return self._elsewhere.start().weights

    @property
    def settles_intrinsics(self) -> bool:
        """See `GeometryEstimator`."""
        return self._elsewhere.start().settles_intrinsics

    @property
    def execution(self) -> Mapping[str, int] | None:
        """How tasks are cut that are handed over from now on; None for an estimator that has no choice."""
        self._elsewhere.start()
        return self._execution

    @execution.setter
    def execution(self, execution: Mapping[str, int] | None) -> None:
        with self._lock:
            for too_large, smaller in self._smaller:
                execution = smaller if execution == too_large else execution
            self._execution = execution

    def adopt(self, sent: Mapping[str, int] | None, used: Mapping[str, int] | None) -> None:
        """Cut all later tasks as one was cut in the end, if that was other than it was sent.

        Tasks that other actors did meanwhile, cut as before, do not turn that back.
        """
        if used is not None and used != sent:
            with self._lock:
                self._smaller.append((sent, used))
            self.execution = self._execution

    def plan(
        self, image_size: tuple[int, int], frames: int | None, *, beside_bytes: int = 0
    ) -> DevicePlan | None:
        """See `PlansMemory`; None for an estimator that has no limit."""
        return self._elsewhere.plan(image_size, frames, beside_bytes)

    def estimate(
        self, images: NDArray[np.uint8], *, indices: NDArray[Any], known_cameras: KnownCameras | None = None
    ) -> Prediction:
        """See `GeometryEstimator.estimate`."""
        task = EstimationTask(images=images, indices=indices, known_cameras=known_cameras)
        return self._elsewhere.submit(task).result().prediction
