"""The one place where a model's name becomes a network."""

from __future__ import annotations

from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.config import ModelConfig, NestedModelConfig, preset
from da3stream.estimation.da3.nested_network import NestedNetwork
from da3stream.estimation.da3.single_view_network import SingleViewNetwork

Network = AnyViewNetwork | SingleViewNetwork | NestedNetwork


def create_network(model: str | ModelConfig | NestedModelConfig) -> Network:
    """A network in evaluation mode, its weights yet to be loaded.

    The keys of its state dict are those of the published checkpoints without the leading `model.`. Build it
    under `torch.device("meta")` where the weights are to be put in place of the parameters.

    Raises:
        ConfigError: there is no model of this name.
    """
    config = preset(model) if isinstance(model, str) else model
    if isinstance(config, NestedModelConfig):
        return NestedNetwork(config).eval()
    if config.is_any_view:
        return AnyViewNetwork(config).eval()
    return SingleViewNetwork(config).eval()
