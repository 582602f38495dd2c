"""The metric and the monocular model: depth and sky, each image on its own."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from da3stream.estimation.da3.config import ModelConfig
from da3stream.estimation.da3.dense_head import DEFAULT_CHUNK
from da3stream.estimation.da3.dpt_head import DptHead
from da3stream.estimation.da3.network_input import check_images, check_layers, full_precision
from da3stream.estimation.da3.sky import with_far_sky
from da3stream.estimation.da3.vision_transformer import Backbone


class SingleViewNetwork(nn.Module):
    """da3metric-large and da3mono-large."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.head_chunk = DEFAULT_CHUNK
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
        maps: list[Tensor] = []
        result: dict[str, Tensor] = {}
        for features in self.backbone.pretrained.features(images, also=export_feat_layers):
            with full_precision(images.device):
                if features.index in export_feat_layers:
                    result[f"feat_layer_{features.index}"] = features.patch_grid()
                if features.index in self.config.out_layers:
                    maps.append(self.head.project(len(maps), features, self.head_chunk))
        with full_precision(images.device):
            predicted = self.head(maps, self.head_chunk)
            predicted["depth"] = with_far_sky(predicted["depth"], predicted["sky"])
        return result | {name: some.unflatten(0, images.shape[:2]) for name, some in predicted.items()}
