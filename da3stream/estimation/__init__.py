"""Chunk of images -> poses, intrinsics and depth in a frame of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from da3stream.errors import ConfigError
from da3stream.estimation.base import GaussianOptions, GeometryEstimator
from da3stream.estimation.on_demand import EstimatorOnDemand

if TYPE_CHECKING:  # the networks below this package run without pydantic
    from da3stream.config import EstimationConfig

__all__ = [
    "EstimatorOnDemand",
    "GaussianOptions",
    "GeometryEstimator",
    "create_estimator",
    "estimator_on_demand",
    "no_gaussians",
    "resolve_model",
]

AUTO_NOTICE = (
    "model auto: classical (structure from motion and dense stereo on the CPU; it needs texture and camera "
    "motion; pass --intrinsics if you know your camera). A network sees more: "
    "da3stream weights fetch da3-base"
)


def resolve_model(config: EstimationConfig, notify: Callable[[str], None]) -> str:
    """Name of the estimator that the configuration asks for.

    `auto` is looked up on this machine, and may fetch weights; `notify` takes a line about each decision.

    Raises:
        ConfigError: `auto` with weights that do not say which model they are.
        WeightsError: there are no weights where the configuration says.
    """
    if config.model != "auto":
        return config.model
    from da3stream.estimation.da3.choice import choose_model

    chosen = choose_model(config, notify)
    if chosen is None:
        notify(AUTO_NOTICE)
    return chosen or "classical"


def estimator_on_demand(
    name: str,
    config: EstimationConfig,
    notify: Callable[[str], None],
    gaussians: GaussianOptions | None = None,
) -> EstimatorOnDemand:
    """The estimator of `create_estimator`, with a metric network beside it if one is asked for.

    It is made when it is needed.

    Raises:
        ConfigError: Gaussians are wanted of a model that predicts none.
    """
    from da3stream.estimation.da3.catalogue import find_model
    from da3stream.estimation.da3.config import predicts_gaussians

    if gaussians is not None and name != "auto" and not predicts_gaussians(name):
        raise no_gaussians(name)

    known = find_model(name)
    is_metric = known is not None and known.is_metric
    metric = None if is_metric else config.metric

    def make() -> GeometryEstimator:
        estimator = create_estimator(name, config, notify, gaussians)
        return estimator if metric is None else _in_metres(estimator, metric, config, notify)

    full_name = name if metric is None else f"{name}+{metric}"
    return EstimatorOnDemand(full_name, is_metric or metric is not None, make)


def no_gaussians(name: str) -> ConfigError:
    """The error that an estimator of this name has no Gaussians to export."""
    return ConfigError(
        "gs_ply needs a model that predicts Gaussians",
        got=name,
        expected="da3-giant or da3nested-giant-large",
        hint="Choose one of them with --model, or leave gs_ply out of --export.",
    )


def create_estimator(
    name: str,
    config: EstimationConfig,
    notify: Callable[[str], None],
    gaussians: GaussianOptions | None = None,
) -> GeometryEstimator:
    """The estimator of this name, ready to run.

    Args:
        name: what `resolve_model` gave.
        config: weights, device and the like of a network.
        notify: takes the line about the licence of the weights.
        gaussians: predict Gaussians, too; for a model that can.

    Raises:
        Da3StreamError: it cannot be had on this machine; the message says why.
    """
    if name == "classical":
        from da3stream.estimation.classical import ClassicalEstimator

        return ClassicalEstimator()
    from da3stream.estimation.da3.building import build_da3

    return build_da3(config, name, notify, gaussians)


def _in_metres(
    estimator: GeometryEstimator, metric: str, config: EstimationConfig, notify: Callable[[str], None]
) -> GeometryEstimator:
    from da3stream.estimation.da3.building import build_metric

    return build_metric(config, metric, estimator, notify)
