"""Depth Anything 3 as an estimator of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from da3stream.errors import ConfigError, DeviceMemoryError, EstimationError
from da3stream.estimation.base import DevicePlan, GaussianOptions
from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.back_off import with_back_off
from da3stream.estimation.da3.conditioning import normalise_extrinsics
from da3stream.estimation.da3.config import NestedModelConfig
from da3stream.estimation.da3.feature_cache import FeatureCache, frame_keys
from da3stream.estimation.da3.gaussian_choice import frame_gaussians
from da3stream.estimation.da3.metric_scale import VIEWS_AT_A_TIME
from da3stream.estimation.da3.nested_network import NestedNetwork
from da3stream.estimation.da3.network import Network
from da3stream.estimation.da3.preprocessing import check_images, to_network_input
from da3stream.estimation.da3.raw_geometry import (
    RawGeometry,
    nothing_known,
    with_known_intrinsics,
    with_known_poses,
    with_proper_cameras,
    with_usable_depth,
)
from da3stream.estimation.da3.sky import is_ground
from da3stream.estimation.memory import forward_memory, plan_forward
from da3stream.scene import FrameGaussians, Gaussians, KnownCameras, Prediction
from da3stream.transformer.execution import Execution, trunk_dtype_for

LOWEST_CONFIDENCE = 1.0
"""Of the network; the pipeline's is 0."""
NO_CAMERA_FROM_RAYS = "the rays of a frame fit no camera; the poses of this chunk are the camera head's"
NO_GEOMETRY = "the network gave no geometry (nearly all sky, perhaps); the chunk is left out"
PSEUDO_RANDOM = "the weights are pseudo-random, so the geometry means nothing"

PerView = Callable[[Tensor], dict[str, Tensor]]
"""(N, 3, H, W) normalised images -> what the network makes of each by itself, N rows each."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Heard:
    """What came of one forward pass."""

    geometry: RawGeometry
    descriptors: NDArray[np.float32]
    """(N, C)."""
    gaussians: FrameGaussians | None


class DA3Estimator:
    """An any-view or the nested network. Implements `GeometryEstimator`.

    With the nested network depth and translations are in metres, unless known poses say another unit.
    """

    settles_intrinsics = False

    def __init__(
        self,
        network: Network,
        *,
        device: torch.device | str,
        pose_head: Literal["camera", "ray"] = "camera",
        reference_view: str = "saddle_balanced",
        reuse_features: bool = False,
        budget_bytes: int | None = None,
        runs_beside: str | None = None,
        gaussians: GaussianOptions | None = None,
        name: str,
        weights: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a network that is ready to run.

        Args:
            network: from `load_network`, on `device`; with its ray branch if `pose_head` is `ray`.
            device: where it runs.
            pose_head: where cameras come from.
            reference_view: which view's camera is the world: saddle_balanced (the published default, a
                typical view), middle or first. Which is best for video cannot be measured without the
                published weights.
            reuse_features: keep what the network makes of each frame by itself for the next chunk
                (`FeatureCache`).
            budget_bytes: what the process may take on the device; None: no limit.
            runs_beside: name of a single-view model that runs on the same device, a few views at a time.
            gaussians: predict Gaussians, too, with a network that has its head for them.
            name: of the model.
            weights: identity of the weights, for the manifest of a run. A "seed" in it says that they are
                pseudo-random, and every prediction warns of it.

        Raises:
            ConfigError: the network sees single views only, and so has no poses, or it has no head for
                Gaussians though they are wanted.
        """
        if not isinstance(network, AnyViewNetwork | NestedNetwork):
            raise ConfigError(
                f"{name} has no poses, so it cannot reconstruct by itself",
                hint="Use `da3stream depth` for single images, or `--metric` beside another model",
            )
        config = network.config
        any_view = config.any_view if isinstance(config, NestedModelConfig) else config
        if gaussians is not None and not any_view.has_gaussians:
            raise ConfigError(f"{name} predicts no Gaussians", expected="da3-giant or da3nested-giant-large")
        self.name, self.weights = name, weights
        self.predicts_gaussians = gaussians is not None
        self._gaussians = gaussians
        self.is_metric = isinstance(network, NestedNetwork)
        self._network, self._device = network, torch.device(device)
        self._pose_head, self._reference_view = pose_head, reference_view
        self._cache = FeatureCache(network.per_view) if reuse_features else None
        self._warnings = (PSEUDO_RANDOM,) if weights is not None and "seed" in weights else ()
        self._last_layer, self._descriptor_width = any_view.out_layers[-1], any_view.width
        self._budget_bytes, self._runs_beside = budget_bytes, runs_beside

    def plan(
        self, image_size: tuple[int, int], frames: int | None, *, beside_bytes: int = 0
    ) -> DevicePlan | None:
        """Cut the network's work so that so many frames fit into the budget; see `PlansMemory`.

        Raises:
            DeviceMemoryError: not even the shortest chunk fits.
        """
        if self._budget_bytes is None:
            return None
        first = self._network.execution
        plan = plan_forward(
            self._network.config.name,
            image_size,
            frames,
            self._budget_bytes,
            trunk_dtype=trunk_dtype_for(self._device),
            first=first,
            with_rays=self._pose_head == "ray",
            with_gaussians=self._gaussians is not None,
            reuses_features=self._cache is not None,
            beside_bytes=beside_bytes + self._metric_bytes(image_size, first),
        )
        self.execution = plan.execution
        return plan

    def _metric_bytes(self, image_size: tuple[int, int], execution: Execution) -> int:
        """What the model that `runs_beside` takes on the device."""
        if self._runs_beside is None:
            return 0
        other = forward_memory(
            self._runs_beside, image_size, trunk_dtype=trunk_dtype_for(self._device), execution=execution
        )
        return other.allocated_bytes(VIEWS_AT_A_TIME)

    @property
    def execution(self) -> dict[str, int]:
        """How the network cuts its work: `views`, `head_views` and `heads` at a time (`Execution`).

        Smaller after the GPU's memory was full. To set it is to go on where another run got to.
        """
        return self._network.execution.sizes()

    @execution.setter
    def execution(self, sizes: Mapping[str, int]) -> None:
        self._network.execution = replace(
            self._network.execution,
            views=sizes["views"],
            head_views=sizes["head_views"],
            heads=sizes["heads"],
        )

    def estimate(
        self, images: NDArray[np.uint8], *, indices: NDArray[Any], known_cameras: KnownCameras | None = None
    ) -> Prediction:
        """Estimate the geometry of a chunk.

        Known intrinsics and poses together condition the network, which takes them in no other way. Either
        alone is put in place of what was predicted, and depth adapted. Known poses make the submap's frame
        and unit theirs. Values that cannot be (infinite depth, say) cost confidence and a warning. Where the
        GPU's memory is full, the network works in smaller pieces from then on, which costs a warning, too.

        Args:
            images: (N, H, W, 3) uint8 RGB, H and W multiples of 14.
            indices: (N,) frame indices.
            known_cameras: what is known beforehand, for the same N images.

        Raises:
            EstimationError: the images have another form, or the arrays do not belong together.
            DeviceMemoryError: the GPU's memory does not hold so many frames, however small the pieces.
        """
        known = known_cameras or KnownCameras()
        check_images(images)
        _check_lengths(len(images), indices, known)
        per_view = None if self._cache is None else partial(self._cache.features, frame_keys(images, indices))
        frames, height, width, _ = images.shape
        heard, memory_warnings = with_back_off(
            lambda: self._run(images, indices, known, per_view),
            self._network,
            work=f"{frames} frames of {width} x {height} pixels",
        )
        said = heard.geometry
        return Prediction(
            depth=said.depth,
            confidence=said.confidence,
            cam_from_submap=said.cam_from_world,
            intrinsics=said.intrinsics,
            is_metric=self.is_metric and known.cam_from_world is None,
            sky=said.sky,
            descriptors=heard.descriptors,
            gaussians=heard.gaussians,
            warnings=(*self._warnings, *memory_warnings, *said.warnings),
        )

    @torch.inference_mode()
    def _run(
        self,
        images: NDArray[np.uint8],
        indices: NDArray[Any],
        known: KnownCameras,
        per_view: PerView | None,
    ) -> _Heard:
        """What the network says, made usable. Where it says nothing, nothing is known."""
        pixels = to_network_input(images, self._device)
        warnings: tuple[str, ...] = ()
        for use_rays in (True, False) if self._pose_head == "ray" else (False,):
            try:
                result = self._forward(pixels, known, use_rays, per_view)
            except DeviceMemoryError:
                raise
            except EstimationError:
                # The input was checked, so it is the predicted geometry that broke a fit.
                warnings = (NO_CAMERA_FROM_RAYS,) if use_rays else (NO_GEOMETRY,)
                continue
            said = _usable(_raw_geometry(result, warnings), known)
            return _Heard(
                geometry=said,
                descriptors=self._descriptors(result),
                gaussians=self._frame_gaussians(result, said, indices, known),
            )
        nothing = None
        if self._gaussians is not None:
            none = Gaussians.none(self._gaussians.coefficients)
            nothing = FrameGaussians(counts=np.zeros(len(images), np.int64), gaussians=none)
        return _Heard(
            geometry=_usable(nothing_known(*images.shape[:3], *warnings), known),
            descriptors=np.zeros((len(images), self._descriptor_width), np.float32),
            gaussians=nothing,
        )

    def _frame_gaussians(
        self, result: Mapping[str, Tensor], said: RawGeometry, indices: NDArray[Any], known: KnownCameras
    ) -> FrameGaussians | None:
        if self._gaussians is None:
            return None
        given = self._conditioning(known)
        return frame_gaussians(result, said, indices, self._gaussians, None if given is None else given[0])

    def _conditioning(self, known: KnownCameras) -> Tensor | None:
        """(1, N, 4, 4) or (1, N, 3, 4) known poses as the network takes them; None unless all is known."""
        if known.cam_from_world is None or known.intrinsics is None:
            return None
        return self._tensor(normalise_extrinsics(known.cam_from_world))

    def _forward(
        self, pixels: Tensor, known: KnownCameras, use_rays: bool, per_view: PerView | None
    ) -> Mapping[str, Tensor]:
        extrinsics, intrinsics = self._conditioning(known), None
        if extrinsics is not None and known.intrinsics is not None:
            intrinsics = self._tensor(known.intrinsics)
        result: Mapping[str, Tensor] = self._network(
            pixels,
            extrinsics,
            intrinsics,
            ref_view_strategy=self._reference_view,
            use_ray_pose=use_rays,
            infer_gs=self._gaussians is not None,
            export_feat_layers=(self._last_layer,),
            per_view=None if per_view is None else per_view(pixels[0]),
        )
        return result

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        """float32 with a batch axis."""
        return torch.from_numpy(np.asarray(values, dtype=np.float32))[None].to(self._device)

    def _descriptors(self, result: Mapping[str, Tensor]) -> NDArray[np.float32]:
        """(N, C) unit vectors: the mean patch of each view; zero where that is."""
        features = result[f"feat_layer_{self._last_layer}"][0].float().mean(dim=(1, 2)).nan_to_num()
        pooled = torch.nn.functional.normalize(features, dim=-1)
        if "reference" in result:
            pooled = in_input_order(pooled, int(result["reference"][0]))
        return _numpy(pooled)


def in_input_order(views: Tensor, reference: int) -> Tensor:
    """(N, ...) as the images came, of views among which `reference` was put before the others."""
    return torch.cat((views[1 : reference + 1], views[:1], views[reference + 1 :]))


def _raw_geometry(result: Mapping[str, Tensor], warnings: tuple[str, ...]) -> RawGeometry:
    """A result of one scene, confidence from 0 upwards."""
    return RawGeometry(
        depth=_numpy(result["depth"][0]),
        confidence=_numpy(result["depth_conf"][0] - LOWEST_CONFIDENCE),
        cam_from_world=_numpy(result["extrinsics"][0]).astype(np.float64),
        intrinsics=_numpy(result["intrinsics"][0]).astype(np.float64),
        sky=_sky(result["sky"][0]) if "sky" in result else None,
        warnings=warnings,
    )


def _sky(sky: Tensor) -> NDArray[np.bool_]:
    """(N, H, W) whether there is sky, of the network's sky activation or of a mask."""
    mask = sky if sky.dtype == torch.bool else ~is_ground(sky)
    return np.asarray(mask.cpu().numpy(), dtype=np.bool_)


def _usable(said: RawGeometry, known: KnownCameras) -> RawGeometry:
    """What the pipeline may rely on."""
    return with_usable_depth(_with_known(with_proper_cameras(said), known))


def _with_known(said: RawGeometry, known: KnownCameras) -> RawGeometry:
    """What is known in place of what was predicted."""
    if known.intrinsics is not None and known.cam_from_world is not None:
        # The network has seen them: its depth fits these intrinsics already.
        said = said.but(intrinsics=np.asarray(known.intrinsics, dtype=np.float64))
    elif known.intrinsics is not None:
        said = with_known_intrinsics(said, known.intrinsics)
    if known.cam_from_world is not None:
        said = with_known_poses(said, known.cam_from_world)
    return said


def _check_lengths(frames: int, indices: NDArray[Any], known: KnownCameras) -> None:
    given = {"indices": indices, "intrinsics": known.intrinsics, "poses": known.cam_from_world}
    lengths = {name: np.shape(values)[0] for name, values in given.items() if values is not None}
    if wrong := {name: length for name, length in lengths.items() if length != frames}:
        raise EstimationError("some arrays do not fit the images", got=wrong, expected=f"{frames} of each")


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.float().cpu().numpy(), dtype=np.float32)
