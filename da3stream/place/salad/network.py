"""The network: normalised images -> place descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from da3stream.errors import EstimationError
from da3stream.place.salad.optimal_transport import log_assignment
from da3stream.transformer import PATCH_PX
from da3stream.transformer.blocks import Block
from da3stream.transformer.execution import Execution
from da3stream.transformer.linear import Linear
from da3stream.transformer.vision_transformer import BLOCK_NORM_EPSILON, PlainVisionTransformer

FINAL_NORM_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class SaladConfig:
    """Sizes of the network; the published ones by default."""

    width: int = 768
    """Channels C of a token."""
    depth: int = 12
    """Number of blocks."""
    heads: int = 12
    hidden: int = 512
    """Width between the two layers of each part of the aggregator."""
    token_width: int = 256
    """Values of the descriptor that come from the class token."""
    clusters: int = 64
    cluster_width: int = 128
    """Values of the descriptor per cluster."""

    @property
    def descriptor_width(self) -> int:
        """Values of a descriptor, 8448 as published."""
        return self.token_width + self.clusters * self.cluster_width


class DinoBackbone(nn.Module):
    """DINOv2 without its mask token; `model` is how the checkpoint's keys go on."""

    def __init__(self, config: SaladConfig) -> None:
        super().__init__()
        blocks = (
            Block(config.width, config.heads, norm_epsilon=BLOCK_NORM_EPSILON) for _ in range(config.depth)
        )
        self.model = PlainVisionTransformer(config.width, blocks, final_norm_epsilon=FINAL_NORM_EPSILON)

    def forward(self, images: Tensor, execution: Execution) -> Tensor:
        """(images, 3, 14 rows, 14 columns) -> normalised tokens (images, 1 + rows * columns, C)."""
        rows, columns = (side // PATCH_PX for side in images.shape[-2:])
        tokens = self.model.embed(images, self.model.positions(rows, columns))
        for block in self.model.blocks:
            cast(Block, block).update(tokens, None, execution)
        return self.model.norm(tokens)


class Aggregator(nn.Module):
    """Tokens -> one descriptor: the class token beside what the patches say, gathered by cluster."""

    def __init__(self, config: SaladConfig) -> None:
        super().__init__()
        self.dust_bin = nn.Parameter(torch.ones(()))
        self.token_features = nn.Sequential(
            Linear(config.width, config.hidden), nn.ReLU(), Linear(config.hidden, config.token_width)
        )
        self.cluster_features = _patch_mlp(config.width, config.hidden, config.cluster_width)
        self.score = _patch_mlp(config.width, config.hidden, config.clusters)

    def forward(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """(images, 1 + rows * columns, C) -> (images, descriptor width) of unit length."""
        patches = torch.unflatten(tokens[:, 1:].transpose(1, 2), 2, (rows, columns))
        features = self.cluster_features(patches).flatten(2)
        shares = log_assignment(self.score(patches).flatten(2), self.dust_bin)[:, :-1].exp()
        gathered = functional.normalize(features @ shares.transpose(1, 2), dim=1)
        token = functional.normalize(self.token_features(tokens[:, 0]), dim=1)
        return functional.normalize(torch.cat((token, gathered.flatten(1)), dim=1), dim=1)


class SaladNetwork(nn.Module):
    """Backbone and aggregator."""

    def __init__(self, config: SaladConfig | None = None) -> None:
        super().__init__()
        self.config = config or SaladConfig()
        self.execution = Execution()
        self.backbone = DinoBackbone(self.config)
        self.aggregator = Aggregator(self.config)

    def forward(self, images: Tensor) -> Tensor:
        """Descriptors of images.

        Args:
            images: (images, 3, H, W) float32, normalised as for ImageNet; H and W multiples of 14.

        Returns:
            (images, descriptor width) float32 of unit length.

        Raises:
            EstimationError: the sides are no multiples of 14, or there are not more patches than clusters.
        """
        height, width = images.shape[-2:]
        if height % PATCH_PX or width % PATCH_PX:
            raise EstimationError(
                "SALAD cannot take images of this size",
                got=f"{width} x {height} pixels",
                expected=f"sides that are multiples of {PATCH_PX}",
            )
        tokens = self.backbone(images, self.execution)
        return self.aggregator(tokens, height // PATCH_PX, width // PATCH_PX)


def _patch_mlp(width: int, hidden: int, width_out: int) -> nn.Sequential:
    """Two 1 x 1 convolutions, numbered as in the checkpoint, where a dropout for training is the second."""
    layers = nn.Sequential()
    layers.add_module("0", nn.Conv2d(width, hidden, 1))
    layers.add_module("2", nn.ReLU())
    layers.add_module("3", nn.Conv2d(hidden, width_out, 1))
    return layers
