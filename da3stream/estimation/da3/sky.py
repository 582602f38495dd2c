"""Depth where there is sky."""

from __future__ import annotations

import torch
from torch import Tensor

SKY_THRESHOLD = 0.3
FAR_QUANTILE = 0.99
MINIMUM_PIXELS = 10
"""With no more sky or no more ground than this, nothing is replaced."""


def is_ground(sky: Tensor) -> Tensor:
    """Which pixels are not sky, given the head's `sky` of any shape."""
    return sky < SKY_THRESHOLD


def with_far_sky(depth: Tensor, sky: Tensor) -> Tensor:
    """Depth with the sky at the 0.99 quantile of all other depths, over all views together.

    The published network estimates the quantile from random pixels where there are more than 100,000; this is
    the exact one, so that the same images always give the same depth.
    """
    ground = is_ground(sky)
    count = int(ground.sum())
    if count <= MINIMUM_PIXELS or ground.numel() - count <= MINIMUM_PIXELS:
        return depth
    return torch.where(ground, depth, quantile(depth[ground], FAR_QUANTILE))


def quantile(values: Tensor, share: float) -> Tensor:
    """Scalar quantile of values (n,), n >= 1, linear between neighbours; torch's own ends at 16 million."""
    position = share * (len(values) - 1)
    below = int(position)
    low = values.kthvalue(below + 1).values
    if below + 1 == len(values):
        return low
    high = values.kthvalue(below + 2).values
    return torch.lerp(low, high, position - below)
