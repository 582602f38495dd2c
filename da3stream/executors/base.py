"""Where estimation runs: the pipeline hands over tasks and takes results in its own order."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.base import GeometryEstimator, PlansMemory
from da3stream.estimation.contract import check_prediction

if TYPE_CHECKING:
    from da3stream.scene import KnownCameras, Prediction


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EstimationTask:
    """The arguments of `GeometryEstimator.estimate`."""

    images: NDArray[np.uint8]
    """(N, H, W, 3) RGB."""
    indices: NDArray[Any]
    """(N,) frame indices."""
    known_cameras: KnownCameras | None
    """What is known beforehand of these N images."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Estimate:
    """What came back."""

    prediction: Prediction
    """Checked against the contract."""
    seconds: float
    """Wall time of the estimator alone."""
    execution: Mapping[str, int] | None
    """How the estimator cuts its work now (see `PlansMemory`); None if it has no choice."""


class Executor(Protocol):
    """Estimates chunks beside the pipeline. What comes back does not depend on where or when it ran.

    A context manager: when it is left, tasks that have not begun are dropped.
    """

    @property
    def capacity(self) -> int:
        """Chunks that are worth handing over before the first has come back."""
        ...

    def submit(self, task: EstimationTask) -> Future[Estimate]:
        """Have a chunk estimated. The future raises what the estimator raised, EstimationError if it broke
        its contract."""
        ...


def run_task(estimator: GeometryEstimator, task: EstimationTask) -> Estimate:
    """Estimate a chunk here and now, and check the result.

    Raises:
        EstimationError: the estimator failed or broke its contract.
    """
    began = time.perf_counter()
    prediction = estimator.estimate(task.images, indices=task.indices, known_cameras=task.known_cameras)
    check_prediction(prediction, estimator.name, len(task.images))
    return Estimate(
        prediction=prediction,
        seconds=time.perf_counter() - began,
        execution=estimator.execution if isinstance(estimator, PlansMemory) else None,
    )
