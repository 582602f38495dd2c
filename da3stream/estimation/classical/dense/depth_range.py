"""Which depths to expect in a frame: from triangulated points or, without them, a fast optical flow."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.dense.maps import SparseDepth
from da3stream.estimation.classical.dense.triangulation import triangulate
from da3stream.estimation.classical.dense.views import Rays, Views, pixel_centres

MIN_POINTS = 20
NEAR_MARGIN, FAR_MARGIN = 1.6, 0.5
"""The range goes beyond the points: they sit on texture, which the road before the car does not have."""
INFINITY_SHARE = 0.1
"""A far end below this share of the near end is extended to infinity, which costs next to no resolution."""
HORIZON_FACTOR = 50.0
"""Depth that stands for infinity, in median depths."""
FLOW_OFFSETS = (1, 2, 4, 6)
FLOW_STRIDE_PX = 8
MIN_FLOW_PARALLAX_PX, MAX_FLOW_RESIDUAL_PX = 2.0, 1.0

Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthRange:
    """Inverse depths that one frame may hold."""

    far: float
    """Smallest, >= 0."""
    median: float
    """Median over the points known, > 0."""
    near: float
    """Largest, > far."""

    @property
    def is_open(self) -> bool:
        """True if the scene reaches to infinity, as far as one can tell."""
        return self.far == 0

    @property
    def horizon(self) -> float:
        """Inverse depth > 0 of what has no parallax."""
        return max(self.far, self.median / HORIZON_FACTOR)


def depth_ranges(views: Views, sparse: SparseDepth | None) -> list[DepthRange]:
    """One range a frame; a frame that knows fewer than 20 points takes those of all frames.

    Without any point at all (nothing moves, or only turns) every range is centred on depth 1.
    """
    inverse = [1 / depths for depths in sparse.depths] if sparse else _inverse_depths_from_flow(views)
    pooled = np.concatenate([*inverse, np.empty(0)])
    if len(pooled) == 0:
        pooled = np.ones(1)
    return [_range_of(own if len(own) >= MIN_POINTS else pooled) for own in inverse]


def _range_of(inverse_depths: Float64) -> DepthRange:
    low, median, high = np.percentile(inverse_depths, [2, 50, 98])
    near, far = NEAR_MARGIN * high, FAR_MARGIN * low
    return DepthRange(
        far=float(far if far > INFINITY_SHARE * near else 0), median=float(median), near=float(near)
    )


def _inverse_depths_from_flow(views: Views) -> list[Float64]:
    """Inverse depths at a grid of pixels of every frame, from the first frame near it with parallax."""
    return [_inverse_depths_of(views, reference) for reference in range(len(views))]


def _inverse_depths_of(views: Views, reference: int) -> Float64:
    best = np.empty(0)
    for offset in (*FLOW_OFFSETS, *(-k for k in FLOW_OFFSETS)):
        if 0 <= reference + offset < len(views):
            found = _triangulate_grid(views, reference, reference + offset)
            best = found if len(found) > len(best) else best
        grid = np.prod(views.size) / FLOW_STRIDE_PX**2
        if len(best) > grid / 4:
            break
    return best


def _triangulate_grid(views: Views, reference: int, source: int) -> Float64:
    """Inverse depths of the grid pixels that moved by parallax, along their epipolar line."""
    pair = views.pair(reference, source)
    if not np.linalg.norm(pair.epipole) > 0:
        return np.empty(0)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    dis.setFinestScale(1)
    start = FLOW_STRIDE_PX // 2
    flow = dis.calc(views.grey[reference], views.grey[source], None)[
        start::FLOW_STRIDE_PX, start::FLOW_STRIDE_PX
    ]
    x, y = pixel_centres(views.size)
    x, y = x[:, start::FLOW_STRIDE_PX], y[start::FLOW_STRIDE_PX]
    found = triangulate(pair, Rays.at(pair, x, y), x + flow[..., 0], y + flow[..., 1])
    good = (found.parallax_px > MIN_FLOW_PARALLAX_PX) & (found.residual_px < MAX_FLOW_RESIDUAL_PX)
    return found.inverse_depth[good].astype(np.float64)
