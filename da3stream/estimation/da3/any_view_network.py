"""The network that sees all views of a scene together: depth, confidence and cameras."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from da3stream.errors import EstimationError
from da3stream.estimation.da3.camera_tokens import CameraDecoder, CameraEncoder
from da3stream.estimation.da3.config import ModelConfig
from da3stream.estimation.da3.dual_dpt_head import DualDptHead
from da3stream.estimation.da3.gaussian_head import GaussianHead
from da3stream.estimation.da3.gaussians import Gaussians, gaussians_from_raw
from da3stream.estimation.da3.layer_features import LayerFeatures
from da3stream.estimation.da3.network_input import check_images, check_layers
from da3stream.estimation.da3.pose_encoding import Cameras, decode_cameras
from da3stream.estimation.da3.ray_pose import pose_from_rays
from da3stream.estimation.da3.reference_view import check_strategy, choose_reference, reference_first
from da3stream.estimation.da3.vision_transformer import Backbone, EarlyTokens
from da3stream.transformer.execution import Execution


class AnyViewNetwork(nn.Module):
    """da3-small to da3-giant. B is the batch, N the views of one scene."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.execution = Execution()
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
        per_view: dict[str, Tensor] | None = None,
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
            per_view: what `per_view` made of these very images, (B * N, ...). It is taken out of the mapping,
                so that it can be freed, and changed. Features of early layers cannot be exported then.

        Returns:
            `depth` and `depth_conf` (>= 1) (B, N, H, W); `extrinsics` (B, N, 3, 4) world-to-camera,
            `intrinsics` (B, N, 3, 3); `pose_enc` (B, N, 9), what the camera head said (pose_encoding.py);
            `reference` (B,) index of the view that was chosen, where cameras are not known.
            On demand `ray` (B, N, 8 H/14, 8 W/14, 6), `ray_conf`; `feat_layer_I` (B, N, H/14, W/14, C);
            `gs.raw`, `gs.conf` and `gaussians.FIELD`, the fields of `Gaussians` with the axes B, N first.

        Raises:
            ConfigError: there is no such strategy.
            EstimationError: a shape or a layer to export does not fit, only one half of the cameras is given,
                the model has no Gaussians, or the rays fit no camera.
        """
        self._check(images, ref_view_strategy, infer_gs, export_feat_layers, per_view)
        early, result = self._early(images, per_view, export_feat_layers)
        camera_tokens = self._known_camera_tokens(images, extrinsics, intrinsics)
        if camera_tokens is None:
            class_tokens = torch.unflatten(early.class_tokens, 0, images.shape[:2])
            result["reference"] = choose_reference(class_tokens, ref_view_strategy)
            camera_tokens = self.backbone.pretrained.learned_camera_tokens(
                result["reference"], images.shape[1]
            )
        features = self.backbone.pretrained.features(
            early.tokens, camera_tokens, images, self.execution, also=export_feat_layers
        )
        maps, gaussian_maps = self._read(features, result, infer_gs, export_feat_layers)
        del early
        predicted = self.head(maps, self.execution.head_views, with_rays=use_ray_pose or export_rays)
        result |= predicted
        if infer_gs:
            result |= self.gs_head(gaussian_maps, images.flatten(0, 1), self.execution.head_views)
        of_scene = {"reference"}
        result = {
            name: some if name in of_scene else torch.unflatten(some, 0, images.shape[:2])
            for name, some in result.items()
        }
        self._show_reference_first(result, export_feat_layers)
        result |= self._cameras(result, images, use_ray_pose)
        if infer_gs:
            result |= self._gaussians(result, extrinsics)
        hidden = set() if export_rays else {"ray", "ray_conf"}
        return {name: value for name, value in result.items() if name not in hidden}

    def per_view(self, images: Tensor) -> dict[str, Tensor]:
        """What the network makes of each view before it looks at the others.

        For frames that come again in the next call: keep it, and pass it to `forward`.

        Args:
            images: (V, 3, H, W), normalised.

        Returns:
            Tensors of V rows each.
        """
        early, _ = self.backbone.pretrained.early(images, self.execution)
        return {"tokens": early.tokens, "class_tokens": early.class_tokens}

    def _early(
        self, images: Tensor, per_view: dict[str, Tensor] | None, layers: Collection[int]
    ) -> tuple[EarlyTokens, dict[str, Tensor]]:
        """The early tokens, and the features of the early layers, each of (views, ...)."""
        if per_view is not None:
            kept = EarlyTokens(tokens=per_view.pop("tokens"), class_tokens=per_view.pop("class_tokens"))
            return kept, {}
        early, exported = self.backbone.pretrained.early(images.flatten(0, 1), self.execution, also=layers)
        return early, {f"feat_layer_{index}": some for index, some in exported.items()}

    def _read(
        self,
        layers: Iterable[LayerFeatures],
        result: dict[str, Tensor],
        infer_gs: bool,
        export_feat_layers: Collection[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Take from each layer what heads and results need; the projections for the heads."""
        maps: list[Tensor] = []
        gaussian_maps: list[Tensor] = []
        for features in layers:
            if features.index in export_feat_layers:
                result[f"feat_layer_{features.index}"] = features.patch_grid()
            if features.index in self.config.out_layers:
                if infer_gs:
                    level = len(gaussian_maps)
                    gaussian_maps.append(self.gs_head.project(level, features, self.execution.head_views))
                maps.append(self.head.project(len(maps), features, self.execution.head_views))
            if features.index == self.config.out_layers[-1]:
                result["pose_enc"] = self.cam_dec(features.camera_tokens())
            del features  # its local tokens would stay in memory until the next layer is there
        return maps, gaussian_maps

    def _show_reference_first(self, result: dict[str, Tensor], layers: Collection[int]) -> None:
        """Features from the last early block on are published with the reference view first."""
        start = self.config.alternation_start
        if "reference" in result and start is not None:
            for layer in layers:
                if layer >= start - 1:
                    name = f"feat_layer_{layer}"
                    result[name] = reference_first(result[name], result["reference"])

    def _check(
        self,
        images: Tensor,
        ref_view_strategy: str,
        infer_gs: bool,
        export_feat_layers: Collection[int],
        per_view: Mapping[str, Tensor] | None,
    ) -> None:
        check_strategy(ref_view_strategy)
        check_images(images)
        check_layers(export_feat_layers, self.config)
        if infer_gs and not self.config.has_gaussians:
            raise EstimationError(f"{self.config.name} predicts no Gaussians", expected="da3-giant")
        start = self.config.alternation_start or 0
        if per_view is not None and min(export_feat_layers, default=start) < start:
            raise EstimationError(
                "features of early layers were not kept",
                got=list(export_feat_layers),
                expected=f"{start} or more",
            )

    def _known_camera_tokens(
        self, images: Tensor, extrinsics: Tensor | None, intrinsics: Tensor | None
    ) -> Tensor | None:
        if extrinsics is None and intrinsics is None:
            return None
        if extrinsics is None or intrinsics is None:
            raise EstimationError("DA3 takes known poses and known intrinsics together or not at all")
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

    def _gaussians(self, result: dict[str, Tensor], given: Tensor | None) -> dict[str, Tensor]:
        names = ("gs.raw", "gs.conf", "depth", "extrinsics", "intrinsics")
        scenes = [
            gaussians_from_raw(
                *(result[name][scene] for name in names),
                given_cam_from_world=None if given is None else given[scene],
            )
            for scene in range(len(result["depth"]))
        ]
        return {
            f"gaussians.{field}": torch.stack([getattr(scene, field) for scene in scenes])
            for field in Gaussians.__dataclass_fields__
        }
