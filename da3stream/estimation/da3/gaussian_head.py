"""The head that predicts one Gaussian a pixel (da3-giant only)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from da3stream.estimation.da3.config import ModelConfig
from da3stream.estimation.da3.dense_head import DenseHead, output_layers
from da3stream.estimation.da3.fusion import resize_bilinear
from da3stream.estimation.da3.gaussians import RAW_CHANNELS
from da3stream.estimation.da3.uv_embedding import add_uv_embedding
from da3stream.transformer.execution import pieces


class GaussianHead(DenseHead):
    """Looks at the images once more, for detail that the patches have lost."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, normalised=False, embeds_position=True)
        half = config.head_features // 2
        self.scratch["output_conv1"] = nn.Conv2d(config.head_features, half, 3, padding=1)
        self.scratch["output_conv2"] = output_layers(half, RAW_CHANNELS + 1)
        self.images_merger = nn.Sequential()
        for before, after in pairwise((3, half // 4, half // 2, half)):
            self.images_merger.append(nn.Conv2d(before, after, 3, padding=1))
            self.images_merger.append(nn.GELU())

    def forward(self, maps: Sequence[Tensor], images: Tensor, chunk: int) -> dict[str, Tensor]:
        """Projections of all four levels, and normalised images (views, 3, H, W).

        Returns:
            What `gaussians_from_raw` takes: `gs.raw` (views, H, W, 37), and `gs.conf` (views, H, W), the
            opacity in [0, 1].
        """
        parts = [
            self._predict([level[some] for level in maps], images[some])
            for some in pieces(len(images), chunk)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _predict(self, maps: Sequence[Tensor], images: Tensor) -> dict[str, Tensor]:
        height, width = images.shape[-2:]
        fused = self.scratch["output_conv1"](self.fuse(self.laterals(maps)))
        merged = resize_bilinear(fused, (height, width)) + self.images_merger(images)
        predicted = self.scratch["output_conv2"](add_uv_embedding(merged, width / height)).permute(0, 2, 3, 1)
        return {"gs.raw": predicted[..., :RAW_CHANNELS], "gs.conf": predicted[..., RAW_CHANNELS].sigmoid()}
