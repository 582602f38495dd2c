"""The head of the any-view models: depth with confidence and, when asked for, the ray of every cell.

"Depth Anything 3", arXiv:2511.10647: two fusion branches over the same laterals.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from da3stream.estimation.da3.config import ModelConfig
from da3stream.estimation.da3.dense_head import (
    NORM_EPSILON,
    OUTPUT_HIDDEN,
    DenseHead,
    image_size,
    output_layers,
)
from da3stream.estimation.da3.fusion import resize_bilinear
from da3stream.estimation.da3.uv_embedding import add_uv_embedding
from da3stream.transformer.execution import pieces

LEVELS = 4
RAY_CHANNELS = 6
RAY_OUTPUT_LAYERS = ("output_conv2_aux.3.0", "output_conv2_aux.0.2", "output_conv2_aux.3.5")


class DualDptHead(DenseHead):
    """Depth and rays.

    The ray branch has output layers for four levels of which only the last is used; the others are here
    because they are in the checkpoints. One layer normalisation serves all levels, kept under level 0.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, normalised=True, embeds_position=True)
        features, half = config.head_features, config.head_features // 2
        self.scratch["output_conv1"] = nn.Conv2d(features, half, 3, padding=1)
        self.scratch["output_conv2"] = output_layers(half, 2)
        self.add_fusion_blocks(features, suffix="_aux")
        self.scratch["output_conv1_aux"] = nn.ModuleList(_five_convolutions(features) for _ in range(LEVELS))
        self.scratch["output_conv2_aux"] = nn.ModuleList(
            _ray_output_layers(half, with_norm=level == 0) for level in range(LEVELS)
        )

    def forward(self, maps: Sequence[Tensor], chunk: int, *, with_rays: bool = False) -> dict[str, Tensor]:
        """Projections of all four levels -> maps of all views.

        Returns:
            `depth` and `depth_conf` (>= 1), each (views, H, W); with rays also `ray` (views, 8 rows, 8
            columns, 6), direction xyz and origin xyz in the world, and `ray_conf` (views, 8 rows, 8
            columns), >= 1.
        """
        parts = []
        for views in pieces(len(maps[0]), chunk):
            some = [level[views] for level in maps]
            laterals = self.laterals(some)
            rays = self._rays(laterals) if with_rays else {}
            parts.append({**self._depth(laterals, image_size(some)), **rays})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _depth(self, laterals: Sequence[Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        fused = resize_bilinear(self.scratch["output_conv1"](self.fuse(laterals)), size)
        logits = self.scratch["output_conv2"](add_uv_embedding(fused, size[1] / size[0]))
        return {"depth": logits[:, 0].exp(), "depth_conf": logits[:, 1].exp() + 1}

    def _rays(self, laterals: Sequence[Tensor]) -> dict[str, Tensor]:
        fused = self.scratch.get_submodule("output_conv1_aux.3")(self.fuse(laterals, "_aux"))
        aspect = fused.shape[-1] / fused.shape[-2]
        first, shared_norm, last = map(self.scratch.get_submodule, RAY_OUTPUT_LAYERS)
        hidden = first(add_uv_embedding(fused, aspect)).permute(0, 2, 3, 1)
        hidden = functional.relu(shared_norm(hidden)).permute(0, 3, 1, 2)
        logits = last(hidden).permute(0, 2, 3, 1)
        return {"ray": logits[..., :RAY_CHANNELS], "ray_conf": logits[..., RAY_CHANNELS].exp() + 1}


def _five_convolutions(features: int) -> nn.Sequential:
    half = features // 2
    widths = (features, half, features, half, features, half)
    return nn.Sequential(*(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths)))


def _ray_output_layers(channels: int, *, with_norm: bool) -> nn.ModuleDict:
    layers: dict[str, nn.Module] = {"0": nn.Conv2d(channels, OUTPUT_HIDDEN, 3, padding=1)}
    if with_norm:
        layers["2"] = nn.LayerNorm(OUTPUT_HIDDEN, eps=NORM_EPSILON)
    layers["5"] = nn.Conv2d(OUTPUT_HIDDEN, RAY_CHANNELS + 1, 1)
    return nn.ModuleDict(layers)
