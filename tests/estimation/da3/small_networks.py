"""Networks with the published structure and next to no parameters."""

from __future__ import annotations

from da3stream.estimation.da3.config import ModelConfig, NestedModelConfig, preset
from da3stream.estimation.da3.network import Network, create_network
from da3stream.transformer.seeded_weights import seeded_array


def small_single_view(name: str = "da3metric-large") -> Network:
    """A single-view network under a published name, so that what is known of the model holds."""
    return seeded(single_view_config(name))


def small_nested() -> Network:
    any_view = preset("tiny")
    assert isinstance(any_view, ModelConfig)
    config = NestedModelConfig(
        name="da3nested-giant-large", any_view=any_view, metric=single_view_config("da3metric-large")
    )
    return seeded(config)


def single_view_config(name: str) -> ModelConfig:
    return ModelConfig(
        name=name,
        width=64,
        depth=5,
        heads=4,
        out_layers=(1, 2, 3, 4),
        head_features=16,
        head_channels=(8, 16, 32, 32),
    )


def seeded(config: ModelConfig | NestedModelConfig | str) -> Network:
    import torch

    network = create_network(config)
    state = {
        name: torch.from_numpy(seeded_array(f"model.{name}", tuple(tensor.shape)))
        for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(state)
    return network.requires_grad_(False)
