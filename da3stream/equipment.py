"""Who works on a run: the estimator and where it runs, the place descriptor, and what their weights are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from da3stream.config import Config
from da3stream.config.model import ModelName
from da3stream.errors import RunMismatchError
from da3stream.estimation import (
    EstimatorOnDemand,
    GaussianOptions,
    GeometryEstimator,
    estimator_on_demand,
    no_gaussians,
    resolve_model,
)
from da3stream.estimation.da3.device import choose_device, runs_on_gpu
from da3stream.executors import LocalExecutor, ModelRecipe, RayExecutor
from da3stream.executors.remote import RemoteEstimator
from da3stream.place.base import PlaceDescriptor
from da3stream.place.choice import resolve_place
from da3stream.place.describing import no_backbone
from da3stream.progress import Progress, ProgressCallback
from da3stream.store import Run

LoadPlace = Callable[[], PlaceDescriptor]
Manifest = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Equipment:
    """Who works on a run. Nothing is loaded yet where a run that was begun may turn out to be finished."""

    estimator: GeometryEstimator
    executor: LocalExecutor | RayExecutor
    """Entered for as long as chunks are estimated."""
    place: str
    """Name of the place descriptor."""
    load_place: LoadPlace | None
    """Makes the place descriptor if it is an object."""
    own_estimator: EstimatorOnDemand | RemoteEstimator | None
    """The estimator, unless the caller gave it."""
    own_place: LoadPlace | None
    """What makes the place descriptor, unless the caller gave it."""

    @property
    def weights(self) -> Manifest | None:
        """Identity of the weights of our own estimator, which is made for it."""
        return None if self.own_estimator is None else self.own_estimator.weights

    @property
    def place_weights(self) -> Manifest | None:
        """Identity of the weights of our own place descriptor, which is made for it."""
        return None if self.own_place is None else getattr(self.own_place(), "weights", None)

    def check(self, run: Run) -> None:
        """Raise RunMismatchError if a run was begun with other weights than these."""
        if self.own_estimator is not None:
            _check_weights(run, "weights", self.own_estimator.name, self.weights)
        if self.own_place is not None:
            _check_weights(run, "place_weights", self.place, self.place_weights)


@contextmanager
def equip(
    begun: Manifest | None,
    config: Config,
    estimator: GeometryEstimator | None,
    descriptor: PlaceDescriptor | None,
    progress: ProgressCallback,
) -> Iterator[Equipment]:
    """What the options name, unless it is given; closed afterwards if it was made here.

    For a new run it is made at once: what is missing is said before there is a run directory. For one that
    was begun, `auto` is what it was begun with.

    Args:
        begun: the manifest of a run that goes on; None for a new one.
        config: the options.
        estimator: the caller's own; None: the one that `config.model` names.
        descriptor: the caller's own; None: the one that `config.place` names.
        progress: is told what takes its time.

    Raises:
        ConfigError: the estimator predicts no Gaussians, or has no features for places, as asked for.
        WeightsError: weights are missing or broken.
    """
    if estimator is not None and "gs_ply" in config.export:
        _check_gaussians(estimator)
    made: EstimatorOnDemand | RayExecutor | None = None
    own: EstimatorOnDemand | RemoteEstimator | None = None
    executor: LocalExecutor | RayExecutor
    if config.executor == "ray":
        made = executor = _ray_executor(begun, config, estimator, progress)
        own = executor.estimator if estimator is None else None
        estimator = executor.estimator
    else:
        if estimator is None:
            estimator = own = made = _own_estimator(begun, config, progress)
        executor = LocalExecutor(estimator)
    try:
        place, load = _place_descriptor(begun, config, descriptor, progress)
        if own and place == "backbone" and own.name.partition("+")[0] == "classical":
            raise no_backbone(own.name)
        yield Equipment(
            estimator=estimator,
            executor=executor,
            place=place,
            load_place=load,
            own_estimator=own,
            own_place=load if descriptor is None else None,
        )
    finally:
        if made:
            made.close()


def _check_gaussians(estimator: GeometryEstimator) -> None:
    if not getattr(estimator, "predicts_gaussians", False):
        raise no_gaussians(estimator.name)


def _own_estimator(begun: Manifest | None, config: Config, progress: ProgressCallback) -> EstimatorOnDemand:
    """The estimator that the configuration names; for a run that was begun, the one it was begun with.

    That one may have other settings, which is said before a network is loaded, or be finished.
    """
    notify = _start_notice(progress)
    if begun is not None:
        return estimator_on_demand(_model_of_run(begun, config), config, notify, _gaussians_of(config))
    worker = estimator_on_demand(resolve_model(config, notify), config, notify, _gaussians_of(config))
    worker.prepare()
    return worker


def _gaussians_of(config: Config) -> GaussianOptions | None:
    """The Gaussians that are to be predicted; None unless they are to be written."""
    if "gs_ply" not in config.export:
        return None
    return GaussianOptions(most=config.max_gaussians, coefficients=(config.gaussian_degree + 1) ** 2)


def _ray_executor(
    begun: Manifest | None,
    config: Config,
    estimator: GeometryEstimator | None,
    progress: ProgressCallback,
) -> RayExecutor:
    """The estimator, or the one that the configuration names, on a Ray cluster; as `_own_estimator`."""
    model = config.model if begun is None else _model_of_run(begun, config)
    executor = RayExecutor(
        estimator or ModelRecipe(model=model, config=config, gaussians=_gaussians_of(config)),
        use_gpus=config.device != "cpu",
        notify=_start_notice(progress),
    )
    if begun is None:
        executor.start()
    return executor


def _model_of_run(begun: Manifest, config: Config) -> str:
    """The model of a run that was begun: what `auto` was there."""
    begun_with: str = begun["model"].partition("+")[0]
    settled = config.model == "auto" and begun_with in get_args(ModelName)
    return begun_with if settled else config.model


def _start_notice(progress: ProgressCallback) -> Callable[[str], None]:
    """Turns a line into progress of the start."""
    return lambda line: progress(Progress(stage="start", message=line))


def _place_descriptor(
    begun: Manifest | None,
    config: Config,
    descriptor: PlaceDescriptor | None,
    progress: ProgressCallback,
) -> tuple[str, LoadPlace | None]:
    """Name of the place descriptor, and what makes it if it is an object."""
    if descriptor is not None:
        return descriptor.name, lambda: descriptor
    name = resolve_place(config, lambda: runs_on_gpu(config.device))
    if begun is not None and name != "none" and config.place == "auto":
        recorded = begun.get("place")
        name = recorded if recorded in ("salad", "vlad") else name
    if name != "salad":
        return name, None

    @cache
    def load() -> PlaceDescriptor:
        from da3stream.place.salad.descriptor import SaladDescriptor

        return SaladDescriptor.load(device=choose_device(config.device), notify=_start_notice(progress))

    if begun is None:
        load()
    return name, load


def _check_weights(run: Run, entry: str, name: str, weights: Manifest | None) -> None:
    """Raise RunMismatchError if a run was begun with other weights than these, of what is called `name`.

    `entry` is where the manifest has them.
    """
    recorded = run.manifest.get(entry)
    if recorded != weights:
        raise RunMismatchError(
            f"{run.root} was made with other weights of {name}",
            got=weights,
            expected=recorded,
            hint="Give the same ones to resume, or start again with --overwrite.",
        )
