"""Flying pixels: depth that an edge of an object has blurred, between the object and what lies behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import FrameBlock

_FLATTER = 0.5
"""Beside a blurred edge the depth is flatter than in it at least by this factor. A steep surface goes on."""


def without_flying_pixels(block: FrameBlock, edge_angle_deg: float) -> FrameBlock:
    """The block with confidence 0 at flying pixels of its reduced depth maps.

    A pixel flies if along its row or its column

    - depth steps on both sides of it, upwards or downwards through it, each time like a surface that is seen
      at less than `edge_angle_deg`: by more than its distance from the ray's next pixel over the tangent of
      that angle, so that maps of any resolution are judged alike;
    - next to those steps, on one side at least, it steps by less than half of them in inverse depth. Inverse
      depth is linear in the pixels of a plane: a road far ahead, which steps as much, goes on and stays.

    So an object is never thinned, however thin: its pixels are nearer than those on both sides of them. Steps
    to pixels without depth or confidence, and those at the border, do not count.

    Args:
        block: finished frames; left alone.
        edge_angle_deg: >= 0, < 90; 0 changes nothing.
    """
    if edge_angle_deg == 0 or not len(block):
        return block
    usable = (block.confidence > 0) & (block.depth > 0) & np.isfinite(block.depth)
    depth = block.depth.astype(np.float64)
    inverse = np.divide(1.0, depth, out=np.full(depth.shape, np.nan), where=usable)
    slope = 1 / np.tan(np.radians(edge_angle_deg))
    along_rows = _flies(inverse, slope / block.depth_intrinsics[:, 0, 0])
    along_columns = _flies(np.swapaxes(inverse, 1, 2), slope / block.depth_intrinsics[:, 1, 1])
    flies = along_rows | np.swapaxes(along_columns, 1, 2)
    return replace(block, confidence=np.where(flies, np.float32(0), block.confidence))


def _flies(inverse: NDArray[Any], least_step: NDArray[Any]) -> NDArray[np.bool_]:
    """(M, h, w) which pixels fly along the last axis.

    Args:
        inverse: (M, h, w) inverse depth, NaN where there is none.
        least_step: (M,) steps of depth over the nearer depth that count.
    """
    step = np.diff(inverse, axis=2)
    # |z2 - z1| / min(z1, z2) is |1/z2 - 1/z1| * max(z1, z2).
    farther = 1 / np.fmin(inverse[..., 1:], inverse[..., :-1])
    counts = np.abs(step) * farther > least_step[:, None, None]  # False beside NaN
    rises = counts & (step > 0)
    falls = counts & (step < 0)
    size = np.pad(np.abs(step), ((0, 0), (0, 0), (1, 1)), constant_values=np.nan)
    before, left, right, after = size[..., :-3], size[..., 1:-2], size[..., 2:-1], size[..., 3:]
    gentler = _FLATTER * np.fmin(left, right)
    ends = (before < gentler) | (after < gentler)
    through = (rises[..., :-1] & rises[..., 1:]) | (falls[..., :-1] & falls[..., 1:])
    return np.pad(through & ends, ((0, 0), (0, 0), (1, 1)))
