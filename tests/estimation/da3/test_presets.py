"""What the models' sizes imply."""

from __future__ import annotations

import pytest

from da3stream.errors import ConfigError
from da3stream.estimation.da3.config import PRESETS, ModelConfig, NestedModelConfig, preset


def transformers() -> list[ModelConfig]:
    return [model for model in PRESETS.values() if isinstance(model, ModelConfig)]


@pytest.mark.parametrize("model", transformers(), ids=lambda model: model.name)
def test_sizes_fit_together(model: ModelConfig) -> None:
    head_width = model.width // model.heads
    assert model.width % model.heads == 0
    assert head_width % 4 == 0
    assert list(model.out_layers) == sorted(set(model.out_layers))
    assert model.out_layers[-1] == model.depth - 1
    assert model.feature_width == (2 if model.is_any_view else 1) * model.width
    assert all(channels % 4 == 0 for channels in model.head_channels)


def test_presets_are_found_by_their_own_names() -> None:
    assert all(preset(name).name == name for name in PRESETS)
    nested = preset("da3nested-giant-large")
    assert isinstance(nested, NestedModelConfig)
    assert nested.any_view.has_gaussians
    assert not nested.metric.is_any_view


def test_unknown_preset() -> None:
    with pytest.raises(ConfigError, match=r"'da4'.*expected da3-small or"):
        preset("da4")
