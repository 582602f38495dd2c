"""How well estimated poses explain the verified matches of a chunk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.reconstruction import Reconstruction
from da3stream.estimation.classical.view_graph import ViewGraph
from da3stream.geometry.sim3 import skew

Array = NDArray[np.float64]

SOFT_INLIER_PX = 0.5
"""A match this far from its epipolar line counts half."""


def epipolar_score(reconstruction: Reconstruction, graph: ViewGraph) -> float:
    """Mean over all verified matches of 1 / (1 + sampson^2 / 0.5^2), in [0, 1].

    Matches of an unregistered image count 0. Good for comparing reconstructions of one chunk; the absolute
    level depends on the scene.
    """
    if graph.num_matches == 0:
        return 0.0
    total = 0.0
    for row, (first, second) in enumerate(graph.pairs):
        if reconstruction.registered[first] and reconstruction.registered[second]:
            fundamental = fundamental_matrix(reconstruction, int(first), int(second))
            squared_px = squared_sampson_error(fundamental, *graph.matched_points(row))
            total += float((1.0 / (1.0 + squared_px / SOFT_INLIER_PX**2)).sum())
    return total / graph.num_matches


def fundamental_matrix(reconstruction: Reconstruction, first: int, second: int) -> Array:
    """(3, 3) F of two images with poses: x2' F x1 = 0 in pixels."""
    a, b = reconstruction.cam_from_submap[first], reconstruction.cam_from_submap[second]
    rotation = b[:, :3] @ a[:, :3].T
    translation = b[:, 3] - rotation @ a[:, 3]
    inverse_a = np.linalg.inv(reconstruction.intrinsics[first])
    inverse_b = np.linalg.inv(reconstruction.intrinsics[second])
    return inverse_b.T @ skew(translation) @ rotation @ inverse_a


def squared_sampson_error(fundamental: Array, points_in_first: Array, points_in_second: Array) -> Array:
    """(M,) squared Sampson distances in px^2 of (M, 2) matches; infinite where F says nothing (Hartley,
    Zisserman section 11.4.3)."""
    lines_in_second = points_in_first @ fundamental[:, :2].T + fundamental[:, 2]
    lines_in_first = points_in_second @ fundamental[:2] + fundamental[2]
    residual = (lines_in_second[:, :2] * points_in_second).sum(axis=1) + lines_in_second[:, 2]
    gradient = (lines_in_second[:, :2] ** 2).sum(axis=1) + (lines_in_first[:, :2] ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = residual**2 / gradient
    return np.where(gradient > 0.0, squared, np.inf)
