"""Options -> an estimator with its network loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from da3stream.config import EstimationConfig
from da3stream.estimation.da3.attention import attention_named
from da3stream.estimation.da3.device import choose_device
from da3stream.estimation.da3.estimator import DA3Estimator
from da3stream.estimation.da3.loading import load_network, seed_of, trunk_dtype_for
from da3stream.estimation.da3.weights import resolve_weights


def build_da3(config: EstimationConfig, model: str, notify: Callable[[str], None]) -> DA3Estimator:
    """The estimator of a model, its network loaded on the device where it will run.

    Args:
        config: device, weights, pose head, reference view and attention.
        model: name of an any-view model, `auto` resolved.
        notify: takes the line about the licence.

    Raises:
        ConfigError: a GPU is named that is not there, or the model has no poses.
        WeightsError: the weights are not on this machine, damaged, or of another model.
        MissingDependencyError: xformers is asked for and not installed, or has no kernel for the device.
    """
    device = choose_device(config.device)
    attention = attention_named(config.attention, device, trunk_dtype_for(device))
    network = load_network(
        model,
        weights=config.weights,
        device=device,
        with_rays=config.pose_head == "ray",
        with_gaussians=False,
        notify=notify,
    )
    network.execution = replace(network.execution, attention=attention)
    return DA3Estimator(
        network,
        device=device,
        pose_head=config.pose_head,
        reference_view=config.reference_view,
        name=model,
        weights=_identity(model, config.weights),
    )


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
