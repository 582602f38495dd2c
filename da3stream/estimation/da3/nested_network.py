"""Two networks on the same images: the metric one gives the any-view one its unit."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.config import NestedModelConfig
from da3stream.estimation.da3.nested import align_to_metric
from da3stream.estimation.da3.single_view_network import SingleViewNetwork
from da3stream.estimation.da3.sky import with_far_sky
from da3stream.transformer.execution import Execution

METRIC = "metric."
"""What the metric network says of each view is kept under names that begin so."""


class NestedNetwork(nn.Module):
    """da3nested-giant-large."""

    def __init__(self, config: NestedModelConfig) -> None:
        super().__init__()
        self.config = config
        self.da3 = AnyViewNetwork(config.any_view)
        self.da3_metric = SingleViewNetwork(config.metric)

    @property
    def execution(self) -> Execution:
        """How the forward passes of both are cut into pieces."""
        return self.da3.execution

    @execution.setter
    def execution(self, execution: Execution) -> None:
        self.da3.execution = self.da3_metric.execution = execution

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
        per_view: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Reconstruct scenes in metres.

        Arguments, results and errors are those of `AnyViewNetwork.forward`, with `depth` and `extrinsics`
        in metres, `scale_factor` (B,), metres per unit of the any-view network, and `sky`
        (B, N, H, W). Features, rays, `pose_enc` and Gaussians stay in that unit. The sky is far away, at
        confidence 1.

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
            per_view=per_view,
        )
        metric = (
            self.da3_metric.per_view(images.flatten(0, 1)) if per_view is None else _metric_part(per_view)
        )
        sky = torch.unflatten(metric["sky"], 0, images.shape[:2])
        canonical = torch.unflatten(with_far_sky(metric["depth"], metric["sky"]), 0, images.shape[:2])
        scenes = [
            align_to_metric(
                *(result[name][scene] for name in ("depth", "depth_conf", "extrinsics", "intrinsics")),
                canonical_depth=canonical[scene],
                sky=sky[scene],
            )
            for scene in range(len(images))
        ]
        result["depth"] = torch.stack([scene.depth_m for scene in scenes])
        result["depth_conf"] = torch.stack([scene.confidence for scene in scenes])
        result["extrinsics"] = torch.stack([scene.cam_from_world for scene in scenes])
        result["scale_factor"] = images.new_tensor([scene.scale for scene in scenes])
        result["sky"] = sky
        return result

    def per_view(self, images: Tensor) -> dict[str, Tensor]:
        """What both networks make of each view by itself; see `AnyViewNetwork.per_view`."""
        metric = self.da3_metric.per_view(images)
        return self.da3.per_view(images) | {METRIC + name: some for name, some in metric.items()}


def _metric_part(per_view: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(METRIC): some for name, some in per_view.items() if name.startswith(METRIC)}
