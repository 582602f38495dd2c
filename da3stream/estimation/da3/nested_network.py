"""Two networks on the same images: the metric one gives the any-view one its unit."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.config import NestedModelConfig
from da3stream.estimation.da3.nested import align_to_metric
from da3stream.estimation.da3.network_input import full_precision
from da3stream.estimation.da3.single_view_network import SingleViewNetwork


class NestedNetwork(nn.Module):
    """da3nested-giant-large."""

    def __init__(self, config: NestedModelConfig) -> None:
        super().__init__()
        self.config = config
        self.da3 = AnyViewNetwork(config.any_view)
        self.da3_metric = SingleViewNetwork(config.metric)

    def forward(
        self,
        images: Tensor,
        extrinsics: Tensor | None = None,
        intrinsics: Tensor | None = None,
        *,
        ref_view_strategy: str = "saddle_balanced",
        use_ray_pose: bool = False,
        infer_gs: bool = False,
        export_feat_layers: Collection[int] = (),
        export_rays: bool = False,
    ) -> dict[str, Tensor]:
        """Reconstruct scenes in metres.

        Arguments, results and errors are those of `AnyViewNetwork.forward`, with `depth` and `extrinsics`
        in metres and `scale_factor` (B,), metres per unit of the any-view network. Features, rays,
        `pose_enc` and Gaussians stay in that unit. The sky is far away, at confidence 1.

        Raises:
            EstimationError: beyond what the any-view network raises, nearly all of a scene is sky.
        """
        result = self.da3(
            images,
            extrinsics,
            intrinsics,
            ref_view_strategy=ref_view_strategy,
            use_ray_pose=use_ray_pose,
            infer_gs=infer_gs,
            export_feat_layers=export_feat_layers,
            export_rays=export_rays,
        )
        metric = self.da3_metric(images)
        with full_precision(images.device):
            scenes = [
                align_to_metric(
                    *(result[name][scene] for name in ("depth", "depth_conf", "extrinsics", "intrinsics")),
                    canonical_depth=metric["depth"][scene],
                    sky=metric["sky"][scene],
                )
                for scene in range(len(images))
            ]
        result["depth"] = torch.stack([scene.depth_m for scene in scenes])
        result["depth_conf"] = torch.stack([scene.confidence for scene in scenes])
        result["extrinsics"] = torch.stack([scene.cam_from_world for scene in scenes])
        result["scale_factor"] = images.new_tensor([scene.scale for scene in scenes])
        return result
