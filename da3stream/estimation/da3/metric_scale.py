"""Metres for any estimator, from the metric network run on the same images.

The metric network sees each image alone and predicts depth as if the focal length were 300 pixels. With the
intrinsics that the wrapped estimator found that depth is in metres, and one factor for the whole chunk brings
the estimate to metres too ("Depth Anything 3", arXiv:2511.10647).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from da3stream.estimation.base import DevicePlan, GeometryEstimator, PlansMemory
from da3stream.estimation.contract import check_prediction
from da3stream.estimation.da3.nested import CANONICAL_FOCAL_PX
from da3stream.estimation.da3.preprocessing import to_network_input
from da3stream.estimation.da3.single_view_network import SingleViewNetwork
from da3stream.estimation.da3.sky import SKY_THRESHOLD
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.imaging import resize_to_patches
from da3stream.scene import KnownCameras, Prediction

PUBLISHED_SKY_THRESHOLD = 0.5
"""From here on the published model calls a pixel sky; for its own arithmetic it does so from 0.3 on."""
MINIMUM_USABLE_PIXELS = 100
WIDE_SPREAD = 2.0
"""The middle half of the pixels should agree about the scale better than this factor."""
VIEWS_AT_A_TIME = 8

NO_SCALE = "no metric scale: hardly a pixel has two usable depths; this chunk keeps the estimator's unit"
DOUBTFUL_SCALE = (
    "the metric scale of this chunk is doubtful: its pixels disagree by more than a factor of two"
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _MetricMaps:
    """What the metric network says of a chunk, at the size of its input."""

    depth_m: NDArray[np.float32]
    """(N, H, W) metres."""
    sky: NDArray[np.float32]
    """(N, H, W), larger is more of a sky."""


class MetricScaledEstimator:
    """Another estimator, its results brought to metres. Implements `GeometryEstimator`.

    Each chunk is scaled by itself, so that `estimate` stays a function of its arguments; what the chunks
    disagree about is the scale of the edges between them. A chunk whose scale cannot be told stays in the
    estimator's unit, with a warning, and `Prediction.is_metric` as the estimator says.
    """

    is_metric = True

    def __init__(
        self,
        estimator: GeometryEstimator,
        network: SingleViewNetwork,
        *,
        device: torch.device | str,
        weights: Mapping[str, Any] | None = None,
    ) -> None:
        """Wrap an estimator.

        Args:
            estimator: any; closed with this one.
            network: da3metric-large from `load_network`, on `device`.
            device: where the network runs.
            weights: identity of its weights, for the manifest of a run.
        """
        self.weights = {"estimator": getattr(estimator, "weights", None), "metric": weights}
        self.name = f"{estimator.name}+{network.config.name}"
        self.settles_intrinsics: bool = getattr(estimator, "settles_intrinsics", True)
        self._estimator, self._network, self._device = estimator, network, torch.device(device)

    def estimate(
        self, images: NDArray[np.uint8], *, indices: NDArray[Any], known_cameras: KnownCameras | None = None
    ) -> Prediction:
        """Estimate the geometry of a chunk in metres. Sky gets confidence 0 and is in `Prediction.sky`.

        Args:
            images: (N, H, W, 3) uint8 RGB of any size; the metric network sees them with sides rounded to
                multiples of 14.
            indices: (N,) frame indices.
            known_cameras: handed to the wrapped estimator.

        Raises:
            EstimationError: the wrapped estimator broke its contract.
        """
        prediction = self._estimator.estimate(images, indices=indices, known_cameras=known_cameras)
        check_prediction(prediction, self._estimator.name, len(images))
        seen = self._metric_maps(images, prediction)
        ratios = np.exp(_log_ratios(prediction, seen))
        prediction = _without_sky(prediction, _resampled(seen.sky, prediction.depth.shape[1:]))
        if len(ratios) < MINIMUM_USABLE_PIXELS:
            return replace(prediction, warnings=(*prediction.warnings, NO_SCALE))
        low, metres_per_unit, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        warnings = (DOUBTFUL_SCALE,) if high > WIDE_SPREAD * low else ()
        scaled = _scaled(prediction, float(metres_per_unit))
        return replace(scaled, warnings=(*prediction.warnings, *warnings))

    @property
    def predicts_gaussians(self) -> bool:
        """See `GeometryEstimator`: whether the wrapped estimator does."""
        return getattr(self._estimator, "predicts_gaussians", False)

    @property
    def execution(self) -> Mapping[str, int] | None:
        """See `PlansMemory`: that of the wrapped estimator."""
        return getattr(self._estimator, "execution", None)

    @execution.setter
    def execution(self, execution: Mapping[str, int]) -> None:
        if isinstance(self._estimator, PlansMemory):
            self._estimator.execution = execution

    def plan(
        self, image_size: tuple[int, int], frames: int | None, *, beside_bytes: int = 0
    ) -> DevicePlan | None:
        """See `PlansMemory`: that of the wrapped estimator, which knows what runs beside it."""
        planner = self._estimator
        if not isinstance(planner, PlansMemory):
            return None
        return planner.plan(image_size, frames, beside_bytes=beside_bytes)

    def close(self) -> None:
        """Close the wrapped estimator, if it can be closed."""
        getattr(self._estimator, "close", lambda: None)()

    def _metric_maps(self, images: NDArray[np.uint8], prediction: Prediction) -> _MetricMaps:
        """Run the metric network on (N, H, W, 3) images with the cameras of the prediction."""
        canonical, sky = (np.concatenate(maps) for maps in zip(*self._predicted(images), strict=True))
        height, width = prediction.depth.shape[1:]
        cameras = rescale_intrinsics(
            prediction.intrinsics, (width, height), (canonical.shape[2], canonical.shape[1])
        )
        focal_px = (cameras[:, 0, 0] + cameras[:, 1, 1]) / 2
        metres = canonical * (focal_px / CANONICAL_FOCAL_PX).astype(np.float32)[:, None, None]
        return _MetricMaps(depth_m=metres, sky=sky)

    @torch.inference_mode()
    def _predicted(
        self, images: NDArray[np.uint8]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Depth for a focal length of 300 pixels and sky, each (n, H, W), a few views at a time."""
        for start in range(0, len(images), VIEWS_AT_A_TIME):
            views = images[start : start + VIEWS_AT_A_TIME]
            fitting = np.stack([resize_to_patches(view) for view in views])
            result = self._network(to_network_input(fitting, self._device))
            yield result["depth"][0].float().cpu().numpy(), result["sky"][0].float().cpu().numpy()


def _log_ratios(prediction: Prediction, seen: _MetricMaps) -> NDArray[np.float64]:
    """(M,) log of metres over predicted depth, of the more confident half of the pixels that are no sky.

    Taken where the coarser of both maps has its pixels.
    """
    size = tuple(np.minimum(prediction.depth.shape[1:], seen.sky.shape[1:]).tolist())
    depth, confidence = _resampled(prediction.depth, size), _resampled(prediction.confidence, size)
    metres = _resampled(seen.depth_m, size)
    usable = (_resampled(seen.sky, size) < SKY_THRESHOLD) & (confidence > 0)
    usable &= (depth > 0) & (metres > 0) & np.isfinite(depth) & np.isfinite(metres)
    if prediction.sky is not None:
        usable &= ~_resampled(prediction.sky, size)
    if usable.any():
        usable &= confidence >= np.median(confidence[usable])
    return np.log(metres[usable].astype(np.float64)) - np.log(depth[usable].astype(np.float64))


def _resampled(maps: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Maps (N, H, W) at another (height, width): the value of the pixel where each new centre falls.

    Nothing is averaged, so that no depth appears between a foreground and what lies behind it.
    """
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, maps.shape[1:], strict=True)
    )
    return maps[:, rows[:, None], columns]


def _without_sky(prediction: Prediction, seen_sky: NDArray[np.float32]) -> Prediction:
    """The prediction with sky of both sources at confidence 0; `seen_sky` has the size of its depth."""
    sky = seen_sky >= PUBLISHED_SKY_THRESHOLD
    if prediction.sky is not None:
        sky |= prediction.sky
    return replace(prediction, sky=sky, confidence=np.where(sky, np.float32(0), prediction.confidence))


def _scaled(prediction: Prediction, metres_per_unit: float) -> Prediction:
    cameras, said = prediction.cam_from_submap.copy(), prediction.gaussians
    cameras[:, :, 3] *= metres_per_unit
    return replace(
        prediction,
        depth=prediction.depth * np.float32(metres_per_unit),
        cam_from_submap=cameras,
        gaussians=None if said is None else said.scaled(np.full(len(cameras), metres_per_unit)),
        is_metric=True,
    )
