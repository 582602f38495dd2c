"""Which model `--model auto` means, on this machine. Nothing here imports torch unless there is a GPU."""

from __future__ import annotations

from collections.abc import Callable

from da3stream.config import EstimationConfig
from da3stream.errors import ConfigError, WeightsError
from da3stream.estimation.da3.catalogue import MODELS, NON_COMMERCIAL, KnownModel
from da3stream.estimation.da3.device import runs_on_gpu
from da3stream.estimation.da3.hub import fetch
from da3stream.estimation.da3.weights import find_weights, resolve_weights
from da3stream.transformer.weights_folders import weights_folders

Notify = Callable[[str], None]

ANY_VIEW = tuple(model for model in MODELS if model.has_poses)
FETCHED = next(model for model in MODELS if model.name == "da3-base")
"""What is downloaded unasked: half a gigabyte, free for any use."""
FIT_FOR_CPU = ("da3-small", "da3-base")


def choose_model(config: EstimationConfig, notify: Notify) -> str | None:
    """Name of the any-view model to use; None if there is none and the classical estimator has to do.

    Weights that the configuration names decide; else the best model whose weights are on this machine, on a
    CPU among the small ones only; else, with a GPU, da3-base is fetched.

    Args:
        config: weights and device.
        notify: takes a line for each thing that the user should know.

    Raises:
        ConfigError: the weights that are named do not say which model they are, or it has no poses.
        WeightsError: there are no weights where the configuration says.
    """
    if config.weights is not None:
        return _model_of(config.weights)
    on_gpu = runs_on_gpu(config.device)
    found = _found(notify)
    usable = [model for model in found if on_gpu or model.name in FIT_FOR_CPU]
    if usable:
        notify(_line_about_found(usable[-1], on_gpu))
        return usable[-1].name
    if on_gpu:
        return _fetched(notify)
    if found:
        notify(f"model auto: the weights of {_names(found)} are here, but want a GPU; --model NAME insists")
    return None


def _model_of(weights: str) -> str:
    model = None if weights.startswith("seeded:") else resolve_weights(weights).model
    if model is None:
        raise ConfigError(
            f"nothing says which model {weights} is for", hint="Name it: --model da3-base, for example"
        )
    if not model.has_poses:
        raise ConfigError(
            f"{weights} holds {model.name}, which has no poses",
            expected=_names(ANY_VIEW),
            hint="Use it through `da3stream depth` or `--metric`",
        )
    return model.name


def _found(notify: Notify) -> list[KnownModel]:
    """The models whose weights are on this machine, small to large."""
    found = []
    for model in ANY_VIEW:
        try:
            if find_weights(model, weights_folders()) is not None:
                found.append(model)
        except WeightsError as error:
            notify(f"model auto: {model.name} is left out: {error}")
    return found


def _line_about_found(model: KnownModel, on_gpu: bool) -> str:
    if on_gpu:
        return f"model auto: {model.name}, the best one whose weights are on this machine"
    return (
        f"model auto: {model.name}, as its weights are on this machine; without a GPU it is slow, "
        "and --model classical may be faster"
    )


def _fetched(notify: Notify) -> str | None:
    model = FETCHED
    better = [other for other in ANY_VIEW if other.size_bytes > model.size_bytes]
    sizes = ", ".join(f"{other.name} ({other.size_bytes / 1e9:.1f} GB)" for other in better)
    notify(
        f"model auto: {model.name}, to be fetched once ({model.size_bytes / 1e9:.2f} GB, {model.licence}). "
        f"Better, but {NON_COMMERCIAL}: {sizes}; get one with `da3stream weights fetch NAME`"
    )
    try:
        fetch(model)
    except WeightsError as error:
        notify(f"model auto: {error}")
        return None
    return model.name


def _names(models: list[KnownModel] | tuple[KnownModel, ...]) -> str:
    return ", ".join(model.name for model in models)
