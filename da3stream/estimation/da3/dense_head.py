"""What the dense heads have in common: four layers' features -> four laterals -> one map, 8 cells a patch.

Ranftl et al., "Vision Transformers for Dense Prediction", 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from da3stream.estimation.da3.config import ModelConfig
from da3stream.estimation.da3.fusion import FusionBlock, Size
from da3stream.estimation.da3.layer_features import LayerFeatures
from da3stream.estimation.da3.uv_embedding import add_uv_embedding
from da3stream.transformer import PATCH_PX
from da3stream.transformer.execution import pieces
from da3stream.transformer.linear import linear

NORM_EPSILON = 1e-5
OUTPUT_HIDDEN = 32


class PatchProjection(nn.Conv2d):
    """A 1 x 1 convolution whose input is still tokens, channels last."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__(width, channels, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(views, tokens, width) -> (views, tokens, channels)."""
        return linear(tokens, self.weight.flatten(1), self.bias)


class DenseHead(nn.Module):
    """Base of the heads: projections, laterals and fusion. Each view is on its own.

    `project` is called with each layer's features as they become available, the head itself once with all
    four. Both go over `chunk` views at a time, which bounds what they need beside their results.
    """

    def __init__(self, config: ModelConfig, *, normalised: bool, embeds_position: bool) -> None:
        super().__init__()
        width, channels = config.feature_width, config.head_channels
        self.embeds_position = embeds_position
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON) if normalised else nn.Identity()
        self.projects = nn.ModuleList(PatchProjection(width, level) for level in channels)
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            )
        )
        self.scratch = nn.ModuleDict()
        for level, count in enumerate(channels, start=1):
            lateral = nn.Conv2d(count, config.head_features, 3, padding=1, bias=False)
            self.scratch.add_module(f"layer{level}_rn", lateral)
        self.add_fusion_blocks(config.head_features)

    def add_fusion_blocks(self, features: int, suffix: str = "") -> None:
        """Add the four fusion blocks of one branch."""
        for level in range(1, 5):
            block = FusionBlock(features, has_lateral=level < 4)
            self.scratch.add_module(f"refinenet{level}{suffix}", block)

    def project(self, level: int, features: LayerFeatures, chunk: int) -> Tensor:
        """Maps (views, channels of the level, rows, columns) of one layer's features."""
        grid = (features.rows, features.columns)
        layer = cast(PatchProjection, self.projects[level])
        maps = features.tokens.new_empty(features.views, *grid, layer.out_channels)
        for views in pieces(features.views, chunk):
            maps[views] = torch.unflatten(layer(self.norm(features.patches(views))), 1, grid)
        channels_second = maps.permute(0, 3, 1, 2)
        if self.embeds_position:
            add_uv_embedding(channels_second, features.columns / features.rows)
        return channels_second

    def laterals(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of `head_features` channels with 4, 2, 1 and 1/2 cells a patch, from the four projections."""
        resized = (layer(level) for layer, level in zip(self.resize_layers, maps, strict=True))
        return [self.scratch[f"layer{k}_rn"](level) for k, level in enumerate(resized, start=1)]

    def fuse(self, laterals: Sequence[Tensor], suffix: str = "") -> Tensor:
        """(views, features, 8 rows, 8 columns) of the four laterals, through the blocks of one branch."""
        rows, columns = laterals[0].shape[-2:]
        sizes: list[Size] = [(2 * rows, 2 * columns), *(_size(lateral) for lateral in laterals[:3])]
        fused = self.scratch[f"refinenet4{suffix}"](laterals[3], sizes[3])
        for level in (3, 2, 1):
            block = self.scratch[f"refinenet{level}{suffix}"]
            fused = block(fused, sizes[level - 1], laterals[level - 1])
        return fused


def output_layers(channels_in: int, channels_out: int) -> nn.Sequential:
    """The last layers of a head: 3 x 3 convolution, ReLU, 1 x 1 convolution."""
    return nn.Sequential(
        nn.Conv2d(channels_in, OUTPUT_HIDDEN, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(OUTPUT_HIDDEN, channels_out, 1),
    )


def image_size(maps: Sequence[Tensor]) -> Size:
    """Size in pixels of the images that the projections belong to."""
    rows, columns = maps[0].shape[-2:]
    return rows * PATCH_PX, columns * PATCH_PX


def _size(maps: Tensor) -> Size:
    return maps.shape[-2], maps.shape[-1]
