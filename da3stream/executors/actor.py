"""What runs in the process of an actor: one estimator, and its tasks. Knows nothing of Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from da3stream.config import EstimationConfig
from da3stream.estimation import EstimatorOnDemand, GeometryEstimator, estimator_on_demand, resolve_model
from da3stream.estimation.base import DevicePlan, GaussianOptions, PlansMemory
from da3stream.executors.base import Estimate, EstimationTask, run_task

THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRecipe:
    """An estimator of ours, to be made where it will run."""

    model: str
    """What `config.model` names, or auto: what suits the machine where it is made."""
    config: EstimationConfig
    gaussians: GaussianOptions | None = None
    """Gaussians that are wanted, too."""

    def on_demand(self, notices: list[str] | None = None) -> EstimatorOnDemand:
        """The estimator, not made yet; what there is to say when it is made is appended to `notices`."""
        notify = ([] if notices is None else notices).append
        return estimator_on_demand(self.model, self.config, notify, self.gaussians)


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What the pipeline asks of an estimator beside estimates."""

    name: str
    is_metric: bool
    weights: Mapping[str, Any] | None
    """Identity of the weights, JSON values; None for an estimator that has none."""
    settles_intrinsics: bool
    """See `GeometryEstimator`."""
    execution: Mapping[str, int] | None
    """See `PlansMemory`."""
    notices: tuple[str, ...]
    """Lines for the user."""


class EstimationActor:
    """Holds an estimator. Its methods are called one at a time."""

    def __init__(self, threads: str | None) -> None:
        """
        Args:
            threads: OMP_NUM_THREADS of the process that started the run; None: not set there. Ray sets it to
                1 in actors, which would leave a network without a GPU one core.
        """
        os.environ.pop(THREADS, None)
        if threads is not None:
            os.environ[THREADS] = threads
        self._estimator: GeometryEstimator | None = None

    def is_there(self) -> None:
        """Returns as soon as the process has begun."""

    def resolve(self, recipe: ModelRecipe) -> tuple[str, tuple[str, ...]]:
        """What a recipe's `auto` means on this machine, and lines for the user. Errors as `resolve_model`."""
        notices: list[str] = []
        return resolve_model(recipe.config, notices.append), tuple(notices)

    def prepare(self, made: GeometryEstimator | ModelRecipe) -> Description:
        """Take an estimator, or make one.

        Raises:
            Da3StreamError: it cannot be had on this machine; the message says why.
        """
        notices: list[str] = []
        estimator = made.on_demand(notices).prepare() if isinstance(made, ModelRecipe) else made
        self._estimator = estimator
        return Description(
            name=estimator.name,
            is_metric=estimator.is_metric,
            weights=getattr(estimator, "weights", None),
            settles_intrinsics=getattr(estimator, "settles_intrinsics", True),
            execution=estimator.execution if isinstance(estimator, PlansMemory) else None,
            notices=tuple(notices),
        )

    def plan(self, image_size: tuple[int, int], frames: int | None, beside_bytes: int) -> DevicePlan | None:
        """See `PlansMemory`; None for an estimator that has no limit."""
        planner: object = self._estimator
        if not isinstance(planner, PlansMemory):
            return None
        return planner.plan(image_size, frames, beside_bytes=beside_bytes)

    def run(self, task: EstimationTask, execution: Mapping[str, int] | None) -> Estimate:
        """Estimate a chunk, the work cut as `execution` says.

        The images are copied: what comes through Ray cannot be written to, and an estimator may hand them to
        a library that wants to.

        Raises:
            EstimationError: the estimator failed or broke its contract.
        """
        assert self._estimator is not None, "prepared first"
        if execution is not None and isinstance(self._estimator, PlansMemory):
            self._estimator.execution = execution
        writable = EstimationTask(
            images=np.array(task.images), indices=np.array(task.indices), known_cameras=task.known_cameras
        )
        return run_task(self._estimator, writable)
