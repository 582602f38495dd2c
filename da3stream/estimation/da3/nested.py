"""Metres and a far sky for the any-view network, from the metric one run on the same images.

The metric network predicts depth as if the focal length were 300 pixels, and knows the sky; the any-view
network knows poses and a depth that fits them. One factor joins the two ("Depth Anything 3",
arXiv:2511.10647).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from da3stream.errors import EstimationError
from da3stream.estimation.da3.sky import FAR_QUANTILE, MINIMUM_PIXELS, is_ground, quantile

CANONICAL_FOCAL_PX = 300.0
MAX_SKY_DEPTH_M = 200.0
SKY_CONFIDENCE = 1.0
"""The lowest value that the network's confidence takes."""
MIN_METRIC_DEPTH_M = 0.01
MIN_DEPTH = 0.001


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MetricGeometry:
    """Result of `align_to_metric`."""

    depth_m: Tensor
    """(N, H, W)."""
    confidence: Tensor
    """(N, H, W) >= 1; 1 in the sky."""
    cam_from_world: Tensor
    """(N, 3, 4), in metres."""
    scale: float
    """Metres per unit of the any-view network's depth."""


def metric_depth(canonical_depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Metres (N, H, W) of the metric network's depth (N, H, W).

    Args:
        canonical_depth: depth that the metric network predicts, as if the focal length were 300 pixels.
        intrinsics: (N, 3, 3) in pixels of the image that the network was given.
    """
    focal_px = (intrinsics[:, 0, 0] + intrinsics[:, 1, 1]) / 2
    return canonical_depth * (focal_px / CANONICAL_FOCAL_PX)[:, None, None]


def align_to_metric(
    depth: Tensor,
    confidence: Tensor,
    cam_from_world: Tensor,
    intrinsics: Tensor,
    *,
    canonical_depth: Tensor,
    sky: Tensor,
) -> MetricGeometry:
    """Scale the any-view network's geometry to metres and put the sky far away.

    One factor for all views: least squares over pixels that are no sky, whose confidence reaches the median
    and whose depths are positive. The published network estimates its quantiles from random pixels where
    there are more than 100,000; these are the exact ones: the same images always give the same geometry.

    Args:
        depth: (N, H, W) of the any-view network.
        confidence: (N, H, W) of the same, >= 1.
        cam_from_world: (N, 3, 4) of the same.
        intrinsics: (N, 3, 3) of the same, in pixels of the network's input.
        canonical_depth: (N, H, W) of the metric network.
        sky: (N, H, W) of the metric network.

    Raises:
        EstimationError: hardly anything in the images is not sky, or no pixel has two usable depths.
    """
    ground = is_ground(sky)
    if int(ground.sum()) <= MINIMUM_PIXELS:
        raise EstimationError(
            "no metric scale: nearly all of the images is sky",
            got=f"{int(ground.sum())} other pixels",
            expected=f"more than {MINIMUM_PIXELS}",
            hint="Leave these frames out, or use a model without metric depth",
        )
    median = quantile(confidence[ground], 0.5)
    in_metres = metric_depth(canonical_depth, intrinsics)
    usable = ground & (confidence >= median) & (in_metres > MIN_METRIC_DEPTH_M) & (depth > MIN_DEPTH)
    scale = _scale(depth[usable], in_metres[usable])
    scaled = depth * scale
    far = quantile(scaled[ground], FAR_QUANTILE)
    return MetricGeometry(
        depth_m=torch.where(ground, scaled, far.clamp(max=MAX_SKY_DEPTH_M)),
        confidence=torch.where(ground, confidence, SKY_CONFIDENCE),
        cam_from_world=torch.cat([cam_from_world[:, :3, :3], cam_from_world[:, :3, 3:] * scale], dim=-1),
        scale=scale,
    )


def _scale(depth: Tensor, depth_m: Tensor) -> float:
    """Metres per unit of depth, least squares over (M,) pairs."""
    if not len(depth):
        raise EstimationError(
            "no metric scale: no pixel has a positive depth from both networks",
            expected="confident pixels that are no sky",
            hint="Use a model without metric depth",
        )
    units = depth.double()
    return float((units @ depth_m.double()) / (units @ units).clamp(min=1e-12))
