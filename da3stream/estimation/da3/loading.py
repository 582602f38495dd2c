"""A model's name, or weights somewhere -> a network that is ready to run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from da3stream.errors import WeightsError
from da3stream.estimation.da3.checkpoint import empty_network, load_checkpoint
from da3stream.estimation.da3.network import Network
from da3stream.estimation.da3.weights import WeightsLocation, resolve_weights
from da3stream.transformer.execution import execution_for, trunk_dtype_for
from da3stream.transformer.filling import DtypeRule, fill_network
from da3stream.transformer.seeded_weights import SeededTensors, seed_of

_TRUNK_LINEAR = re.compile(
    r"(?:da3\.|da3_metric\.)?backbone\.pretrained\.blocks\.\d+\.(?:attn\.(?:qkv|proj)|mlp\.\w+)\."
)
_RAY_BRANCH = re.compile(r"(?:refinenet\d|output_conv[12])_aux")


def load_network(
    model: str,
    *,
    weights: str | Path | None = None,
    device: torch.device | str = "cpu",
    trunk_dtype: torch.dtype | None = None,
    with_rays: bool = True,
    with_gaussians: bool = True,
    notify: Callable[[str], None] | None = None,
) -> Network:
    """Build a network and load its weights straight into the type and the device where they are used.

    Args:
        model: a name of `PRESETS`.
        weights: a folder, a file, `seeded:N` for pseudo-random ones; None: those of the model on this
            machine (`resolve_weights`).
        device: where the network runs.
        trunk_dtype: type of the matrices of the transformer; everything else is float32. Default: that of
            `trunk_dtype_for(device)`.
        with_rays: keep the ray branch of the head.
        with_gaussians: keep the Gaussian head of the models that have one.
        notify: takes the line about the licence; default: the log.

    Raises:
        ConfigError: there is no such model, or `seeded:` is not followed by a number.
        WeightsError: the weights are not on this machine, damaged, or of another model.
    """
    dtype = trunk_dtype_for(device) if trunk_dtype is None else trunk_dtype
    rule = _rule(dtype)
    network, skipped = _trimmed_network(model, with_rays, with_gaussians)
    network.execution = execution_for(device)
    seed = seed_of(weights)
    if seed is not None:
        names = list(network.state_dict())
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        fill_network(network, zip(names, names, strict=True), SeededTensors(shapes, seed), rule, device)
        return network
    location = _location(model, weights)
    load_checkpoint(network, location, dtype=rule, device=device, skip=skipped, notify=notify)
    return network


def shaped_network(
    model: str, trunk_dtype: torch.dtype, *, with_rays: bool = True, with_gaussians: bool = True
) -> Network:
    """The network as `load_network` makes it, on the meta device: shapes and types, no values.

    Raises:
        ConfigError: there is no such model.
    """
    network, _ = _trimmed_network(model, with_rays, with_gaussians)
    rule = _rule(trunk_dtype)
    for name, parameter in network.named_parameters(remove_duplicate=False):
        parameter.data = parameter.data.to(rule(name))
        parameter.requires_grad_(False)
    return network


def _location(model: str, weights: str | Path | None) -> WeightsLocation:
    location = resolve_weights(model if weights is None else weights)
    if location.model is not None and location.model.name != model:
        raise WeightsError(f"{weights} holds another model", got=location.model.name, expected=model)
    return location


def _rule(trunk: torch.dtype) -> DtypeRule:
    return lambda name: trunk if _TRUNK_LINEAR.match(name) else torch.float32


def _trimmed_network(model: str, with_rays: bool, with_gaussians: bool) -> tuple[Network, list[str]]:
    """The network on the meta device without what is not wanted, and the names that are left out."""
    network = empty_network(model)
    skipped = [] if with_rays else _drop_ray_branch(network)
    return network, skipped + ([] if with_gaussians else _drop_gaussian_heads(network))


def _drop_ray_branch(network: nn.Module) -> list[str]:
    """Remove the modules that only rays need; the beginnings of their names in a checkpoint."""
    dropped = []
    for name, module in list(network.named_modules()):
        for child in [child for child, _ in module.named_children() if _RAY_BRANCH.match(child)]:
            dropped.append(f"{name}.{child}.")
            del module._modules[child]
    return dropped


def _drop_gaussian_heads(network: nn.Module) -> list[str]:
    dropped = []
    for name, module in list(network.named_modules()):
        if "gs_head" in module._modules:
            del module._modules["gs_head"]
            dropped.append(f"{name}.gs_head.".removeprefix("."))
    return dropped
