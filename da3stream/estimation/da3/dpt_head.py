"""The head of the single-view models: depth and sky."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from da3stream.estimation.da3.config import ModelConfig
from da3stream.estimation.da3.dense_head import DenseHead, image_size, output_layers
from da3stream.estimation.da3.fusion import resize_bilinear
from da3stream.transformer.execution import pieces


class DptHead(DenseHead):
    """Depth, and how much of sky each pixel is."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, normalised=False, embeds_position=False)
        half = config.head_features // 2
        self.scratch["output_conv1"] = nn.Conv2d(config.head_features, half, 3, padding=1)
        self.scratch["output_conv2"] = output_layers(half, 1)
        self.scratch["sky_output_conv2"] = output_layers(half, 1)

    def forward(self, maps: Sequence[Tensor], chunk: int) -> dict[str, Tensor]:
        """Projections of all four levels -> `depth` and `sky`, each (views, H, W); both are >= 0."""
        parts = [self._predict([level[some] for level in maps]) for some in pieces(len(maps[0]), chunk)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _predict(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        fused = self.scratch["output_conv1"](self.fuse(self.laterals(maps)))
        fused = resize_bilinear(fused, image_size(maps))
        depth, sky = self.scratch["output_conv2"](fused), self.scratch["sky_output_conv2"](fused)
        return {"depth": depth.exp()[:, 0], "sky": sky.relu()[:, 0]}
