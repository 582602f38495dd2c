"""The network that sees all views of a scene together: depth, confidence and cameras."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from da3stream.errors import EstimationError
from da3stream.estimation.da3.camera_tokens import CameraDecoder, CameraEncoder
from da3stream.estimation.da3.config import ModelConfig
from da3stream.estimation.da3.dense_head import DEFAULT_CHUNK
from da3stream.estimation.da3.dual_dpt_head import DualDptHead
from da3stream.estimation.da3.gaussian_head import GaussianHead
from da3stream.estimation.da3.gaussians import Gaussians, gaussians_from_raw
from da3stream.estimation.da3.network_input import check_images, check_layers, full_precision
from da3stream.estimation.da3.pose_encoding import Cameras, decode_cameras
from da3stream.estimation.da3.ray_pose import pose_from_rays
from da3stream.estimation.da3.reference_view import check_strategy
from da3stream.estimation.da3.vision_transformer import Backbone


class AnyViewNetwork(nn.Module):
    """da3-small to da3-giant. B is the batch, N the views of one scene."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.head_chunk = DEFAULT_CHUNK
        self.backbone = Backbone(config)
        self.head = DualDptHead(config)
        self.cam_dec = CameraDecoder(config.feature_width)
        self.cam_enc = CameraEncoder(config)
        if config.has_gaussians:
            self.gs_head = GaussianHead(config)

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
        """Reconstruct scenes.

        Args:
            images: (B, N, 3, H, W), normalised; H and W multiples of 14.
            extrinsics: (B, N, 4, 4) or (B, N, 3, 4) world-to-camera, where known, in the form that
                `conditioning.normalise_extrinsics` gives; needs `intrinsics`.
            intrinsics: (B, N, 3, 3) in pixels of the images; needs `extrinsics`.
            ref_view_strategy: saddle_balanced, saddle_sim_range, first or middle; for unknown cameras.
            use_ray_pose: take the cameras from the rays instead of the camera head.
            infer_gs: predict Gaussians too (da3-giant only).
            export_feat_layers: blocks whose normalised patches are returned. From the last block before the
                camera tokens on, the reference view comes first in them.
            export_rays: return the rays.

        Returns:
            `depth` and `depth_conf` (>= 1) (B, N, H, W); `extrinsics` (B, N, 3, 4) world-to-camera,
            `intrinsics` (B, N, 3, 3); `pose_enc` (B, N, 9), what the camera head said (pose_encoding.py).
            On demand `ray` (B, N, 8 H/14, 8 W/14, 6), `ray_conf`; `feat_layer_I` (B, N, H/14, W/14, C);
            `gs.raw`, `gs.conf` and `gaussians.FIELD`, the fields of `Gaussians` with the axes B, N first.

        Raises:
            ConfigError: there is no such strategy.
            EstimationError: a shape or a layer to export does not fit, only one half of the cameras is
            given, the
                model has no Gaussians, or the rays fit no camera.
        """
        self._check(images, ref_view_strategy, infer_gs, export_feat_layers)
        maps: list[Tensor] = []
        gaussian_maps: list[Tensor] = []
        result: dict[str, Tensor] = {}
        for features in self.backbone.pretrained.features(
            images,
            camera_tokens=self._camera_tokens(images, extrinsics, intrinsics),
            ref_view_strategy=ref_view_strategy,
            also=export_feat_layers,
        ):
            with full_precision(images.device):
                if features.index in export_feat_layers:
                    result[f"feat_layer_{features.index}"] = features.patch_grid()
                if features.index in self.config.out_layers:
                    maps.append(self.head.project(len(maps), features, self.head_chunk))
                    if infer_gs:
                        level = len(gaussian_maps)
                        gaussian_maps.append(self.gs_head.project(level, features, self.head_chunk))
                if features.index == self.config.out_layers[-1]:
                    result["pose_enc"] = self.cam_dec(features.camera_tokens())
        with full_precision(images.device):
            with_rays = use_ray_pose or export_rays
            predicted = self.head(maps, self.head_chunk, with_rays=with_rays)
            result |= {name: some.unflatten(0, images.shape[:2]) for name, some in predicted.items()}
            result |= self._cameras(result, images, use_ray_pose)
            if infer_gs:
                result |= self._gaussians(gaussian_maps, images, result, extrinsics)
        hidden = set() if export_rays else {"ray", "ray_conf"}
        return {name: value for name, value in result.items() if name not in hidden}

    def _check(
        self, images: Tensor, ref_view_strategy: str, infer_gs: bool, export_feat_layers: Collection[int]
    ) -> None:
        check_strategy(ref_view_strategy)
        check_images(images)
        check_layers(export_feat_layers, self.config)
        if infer_gs and not self.config.has_gaussians:
            raise EstimationError(f"{self.config.name} predicts no Gaussians", expected="da3-giant")

    def _camera_tokens(
        self, images: Tensor, extrinsics: Tensor | None, intrinsics: Tensor | None
    ) -> Tensor | None:
        if extrinsics is None and intrinsics is None:
            return None
        if extrinsics is None or intrinsics is None:
            raise EstimationError("DA3 takes known poses and known intrinsics together or not at all")
        with full_precision(images.device):
            cameras = Cameras(extrinsics=extrinsics[..., :3, :].float(), intrinsics=intrinsics.float())
            return self.cam_enc(cameras, *images.shape[-2:])

    def _cameras(self, result: dict[str, Tensor], images: Tensor, use_ray_pose: bool) -> dict[str, Tensor]:
        height, width = images.shape[-2:]
        if not use_ray_pose:
            cameras = decode_cameras(result["pose_enc"], height, width)
            return {"extrinsics": cameras.extrinsics, "intrinsics": cameras.intrinsics}
        fits = [
            pose_from_rays(ray, confidence, (width, height))
            for ray, confidence in zip(result["ray"], result["ray_conf"], strict=True)
        ]
        return {
            "extrinsics": torch.stack([fit.extrinsics for fit in fits]),
            "intrinsics": torch.stack([fit.intrinsics for fit in fits]),
        }

    def _gaussians(
        self, maps: list[Tensor], images: Tensor, result: dict[str, Tensor], given: Tensor | None
    ) -> dict[str, Tensor]:
        predicted = self.gs_head(maps, images.flatten(0, 1), self.head_chunk)
        gaussians = {name: some.unflatten(0, images.shape[:2]) for name, some in predicted.items()}
        scenes = [
            gaussians_from_raw(
                gaussians["gs.raw"][scene],
                gaussians["gs.conf"][scene],
                result["depth"][scene],
                result["extrinsics"][scene],
                result["intrinsics"][scene],
                given_cam_from_world=None if given is None else given[scene],
            )
            for scene in range(len(images))
        ]
        for field in Gaussians.__dataclass_fields__:
            gaussians[f"gaussians.{field}"] = torch.stack([getattr(scene, field) for scene in scenes])
        return gaussians
