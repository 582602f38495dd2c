"""The shapes of the published models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from da3stream.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One vision transformer with its head.

    A model with `alternation_start` is an any-view model: from that block on, odd blocks attend over all
    views, queries and keys are normalised and rotated, and every view carries a camera token. Without it,
    it is a plain single-view depth model with a sky mask.
    """

    name: str
    width: int
    """Channels C of a token."""
    depth: int
    """Number of blocks."""
    heads: int
    feed_forward: Literal["mlp", "swiglu"] = "mlp"
    out_layers: tuple[int, int, int, int]
    """Indices of the blocks whose outputs the head sees, ascending."""
    alternation_start: int | None = None
    head_features: int
    head_channels: tuple[int, int, int, int]
    """Channels of the four levels before they are brought to `head_features`."""
    camera_encoder_heads: int = 16
    has_gaussians: bool = False

    @property
    def is_any_view(self) -> bool:
        """Whether the views see each other, and cameras and confidence are predicted."""
        return self.alternation_start is not None

    @property
    def feature_width(self) -> int:
        """Channels of the features that the head sees: local and global side by side in an any-view model."""
        return 2 * self.width if self.is_any_view else self.width


@dataclass(frozen=True, kw_only=True)
class NestedModelConfig:
    """An any-view model whose scale is set by a metric single-view one."""

    name: str
    any_view: ModelConfig
    metric: ModelConfig


_LARGE_HEAD = (256, 512, 1024, 1024)

_SMALL = ModelConfig(
    name="da3-small",
    width=384,
    depth=12,
    heads=6,
    out_layers=(5, 7, 9, 11),
    alternation_start=4,
    head_features=64,
    head_channels=(48, 96, 192, 384),
)
_BASE = ModelConfig(
    name="da3-base",
    width=768,
    depth=12,
    heads=12,
    out_layers=(5, 7, 9, 11),
    alternation_start=4,
    head_features=128,
    head_channels=(96, 192, 384, 768),
)
_LARGE = ModelConfig(
    name="da3-large",
    width=1024,
    depth=24,
    heads=16,
    out_layers=(11, 15, 19, 23),
    alternation_start=8,
    head_features=256,
    head_channels=_LARGE_HEAD,
)
_GIANT = ModelConfig(
    name="da3-giant",
    width=1536,
    depth=40,
    heads=24,
    feed_forward="swiglu",
    out_layers=(19, 27, 33, 39),
    alternation_start=13,
    head_features=256,
    head_channels=_LARGE_HEAD,
    has_gaussians=True,
)
_TINY = ModelConfig(
    name="tiny",
    width=64,
    depth=6,
    heads=4,
    out_layers=(2, 3, 4, 5),
    alternation_start=2,
    head_features=16,
    head_channels=(8, 16, 32, 32),
    camera_encoder_heads=4,
)
_TINY_GAUSSIANS = replace(_TINY, name="tiny-gaussians", head_features=32, has_gaussians=True)


def _single_view(name: str) -> ModelConfig:
    return ModelConfig(
        name=name,
        width=1024,
        depth=24,
        heads=16,
        out_layers=(4, 11, 17, 23),
        head_features=256,
        head_channels=_LARGE_HEAD,
    )


_METRIC = _single_view("da3metric-large")
_NESTED = NestedModelConfig(name="da3nested-giant-large", any_view=_GIANT, metric=_METRIC)

PRESETS: dict[str, ModelConfig | NestedModelConfig] = {
    model.name: model
    for model in (
        *(_SMALL, _BASE, _LARGE, _GIANT, _METRIC, _single_view("da3mono-large"), _NESTED),
        *(_TINY, _TINY_GAUSSIANS),
    )
}
"""The published models by name, and two models for tests that have no published weights: `tiny`, and
`tiny-gaussians` with the head for Gaussians."""


def preset(name: str) -> ModelConfig | NestedModelConfig:
    """The model of this name. Raises ConfigError for a name that is none."""
    if name not in PRESETS:
        published = " or ".join(name for name in PRESETS if not name.startswith(_TINY.name))
        raise ConfigError("there is no such DA3 model", got=repr(name), expected=published)
    return PRESETS[name]


def predicts_gaussians(name: str) -> bool:
    """Whether the model of this name has the head for Gaussians; False if there is no such model."""
    model = PRESETS.get(name)
    return (model.any_view if isinstance(model, NestedModelConfig) else model or _TINY).has_gaussians
