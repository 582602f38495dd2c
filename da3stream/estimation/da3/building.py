"""Options -> an estimator with its network loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from da3stream.config import EstimationConfig
from da3stream.errors import ConfigError
from da3stream.estimation.base import GaussianOptions, GeometryEstimator
from da3stream.estimation.da3.device import choose_device, keep_within, memory_budget
from da3stream.estimation.da3.estimator import DA3Estimator
from da3stream.estimation.da3.loading import load_network
from da3stream.estimation.da3.metric_scale import MetricScaledEstimator
from da3stream.estimation.da3.single_view_network import SingleViewNetwork
from da3stream.estimation.da3.weights import resolve_weights
from da3stream.transformer.attention import attention_named
from da3stream.transformer.execution import trunk_dtype_for
from da3stream.transformer.seeded_weights import seed_of


def build_da3(
    config: EstimationConfig,
    model: str,
    notify: Callable[[str], None],
    gaussians: GaussianOptions | None = None,
) -> DA3Estimator:
    """The estimator of a model, its network loaded on the device where it will run.

    Args:
        config: device, weights, pose head, reference view, attention and reuse of features.
        model: name of an any-view model, `auto` resolved.
        notify: takes the line about the licence.
        gaussians: predict Gaussians, too; None: the head for them is not loaded.

    Raises:
        ConfigError: a GPU is named that is not there, or the model has no poses, or no Gaussians though they
            are wanted.
        WeightsError: the weights are not on this machine, damaged, or of another model.
        MissingDependencyError: xformers is asked for and not installed, or has no kernel for the device.
    """
    device = choose_device(config.device)
    budget_bytes = memory_budget(device, config.vram_bytes)
    keep_within(device, budget_bytes)
    attention = attention_named(config.attention, device, trunk_dtype_for(device))
    network = load_network(
        model,
        weights=config.weights,
        device=device,
        with_rays=config.pose_head == "ray",
        with_gaussians=gaussians is not None,
        notify=notify,
    )
    network.execution = replace(network.execution, attention=attention)
    return DA3Estimator(
        network,
        device=device,
        pose_head=config.pose_head,
        reference_view=config.reference_view,
        reuse_features=config.reuse_features,
        budget_bytes=budget_bytes,
        runs_beside=config.metric,
        gaussians=gaussians,
        name=model,
        weights=_identity(model, config.weights),
    )


def build_metric(
    config: EstimationConfig, model: str, estimator: GeometryEstimator, notify: Callable[[str], None]
) -> MetricScaledEstimator:
    """An estimator with a metric network beside it.

    Args:
        config: device; seeded weights, which are those of both networks.
        model: name of a metric single-view model.
        estimator: whatever is to be brought to metres.
        notify: takes the line about the licence.

    Raises:
        ConfigError: a GPU is named that is not there.
        WeightsError: the weights are not on this machine, or damaged.
    """
    device = choose_device(config.device)
    weights = config.weights if seed_of(config.weights) is not None else None
    network = load_network(model, weights=weights, device=device, notify=notify)
    if not isinstance(network, SingleViewNetwork):
        raise ConfigError("this model knows no metres", got=model, expected="da3metric-large")
    return MetricScaledEstimator(estimator, network, device=device, weights=_identity(model, weights))


def _identity(model: str, weights: str | None) -> dict[str, Any]:
    """What tells these weights from others: commit, names and sizes in bytes; or the seed."""
    seed = seed_of(weights)
    if seed is not None:
        return {"seed": seed}
    location = resolve_weights(weights or model)
    return {
        "revision": location.revision,
        "files": {file.name: file.stat().st_size for file in location.files},
    }
