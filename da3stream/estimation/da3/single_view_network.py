"""The metric and the monocular model: depth and sky, each image on its own."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from da3stream.estimation.da3.config import ModelConfig
from da3stream.estimation.da3.dpt_head import DptHead
from da3stream.estimation.da3.network_input import check_images, check_layers
from da3stream.estimation.da3.sky import with_far_sky
from da3stream.estimation.da3.vision_transformer import Backbone
from da3stream.transformer.execution import Execution, pieces


class SingleViewNetwork(nn.Module):
    """da3metric-large and da3mono-large."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.execution = Execution()
        self.backbone = Backbone(config)
        self.head = DptHead(config)

    def forward(self, images: Tensor, *, export_feat_layers: Collection[int] = ()) -> dict[str, Tensor]:
        """Images (B, N, 3, H, W), normalised -> `depth` and `sky`, each (B, N, H, W).

        Depth of the metric model times focal length in pixels / 300 is in metres. Where there is sky it is
        the 0.99 quantile of the other depths of the call. On demand `feat_layer_I` (B, N, H/14, W/14, C).

        Raises:
            EstimationError: the images' shape, or a layer to export, does not fit.
        """
        check_images(images)
        check_layers(export_feat_layers, self.config)
        result = self.per_view(images.flatten(0, 1), export_feat_layers=export_feat_layers)
        result["depth"] = with_far_sky(result["depth"], result["sky"])
        return {name: torch.unflatten(some, 0, images.shape[:2]) for name, some in result.items()}

    def per_view(self, images: Tensor, *, export_feat_layers: Collection[int] = ()) -> dict[str, Tensor]:
        """Images (views, 3, H, W) -> `depth` and `sky` (views, H, W) as the head predicts them, and features.

        A few views go through the whole network at a time, so that memory does not grow with their number.
        """
        size = self.execution.views
        parts = [self._predict(images[some], export_feat_layers) for some in pieces(len(images), size)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _predict(self, images: Tensor, export_feat_layers: Collection[int]) -> dict[str, Tensor]:
        maps: list[Tensor] = []
        result: dict[str, Tensor] = {}
        transformer = self.backbone.pretrained
        for features in transformer.single_view_features(images, self.execution, also=export_feat_layers):
            if features.index in export_feat_layers:
                result[f"feat_layer_{features.index}"] = features.patch_grid()
            if features.index in self.config.out_layers:
                maps.append(self.head.project(len(maps), features, self.execution.head_views))
        return result | self.head(maps, self.execution.head_views)
