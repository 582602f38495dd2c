"""Cameras that only turn, or stand still: recognised before mapping, which such chunks send astray.

Rotation from rays: Kabsch (1976), made robust by iteratively re-weighted least squares.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.view_graph import ViewGraph

Array = NDArray[np.float64]

PARALLAX_PX = 1.5
"""What a rotation may leave unexplained in a chunk without parallax; moving clips leave 5 to 36 px."""
RESIDUAL_QUANTILE = 0.8
"""Share of a pair's matches that must follow the rotation; the rest may lie on moving things."""
PAIR_QUANTILE = 0.75
IRLS_ITERATIONS = 8


def parallax_px(graph: ViewGraph, intrinsics: Array, focal_factors: Sequence[float] = (1.0,)) -> float:
    """Image motion in pixels that rotations of the camera leave unexplained over the widest well-matched
    spacing.

    Args:
        graph: verified matches.
        intrinsics: (N, 3, 3).
        focal_factors: the focal lengths to try, as factors; the smallest residual counts. A wrong focal makes
            a rotation look like parallax, so an unknown one needs several.

    Returns:
        0 for a graph without matches.
    """
    pairs = _widest_pairs(graph)
    if len(pairs) == 0:
        return 0.0
    residuals_px = [
        np.quantile([_pair_residual_px(graph, row, intrinsics, factor) for row in pairs], PAIR_QUANTILE)
        for factor in focal_factors
    ]
    return float(min(residuals_px))


def rotation_chain(graph: ViewGraph, intrinsics: Array) -> Array:
    """(N, 3, 4) cam_from_first of a camera that only turns: each image hangs on its nearest matched
    predecessor.

    An image that matches none gets the rotation of the image before it.
    """
    n = len(graph.keypoints)
    poses = np.zeros((n, 3, 4))
    poses[0, :, :3] = np.eye(3)
    row_of = {(first, second): row for row, (first, second) in enumerate(graph.pairs.tolist())}
    for image in range(1, n):
        anchor = next((each for each in reversed(range(image)) if (each, image) in row_of), None)
        if anchor is None:
            poses[image] = poses[image - 1]
            continue
        rays = _matched_rays(graph, row_of[anchor, image], intrinsics, 1.0)
        poses[image, :, :3] = fit_rotation(*rays) @ poses[anchor, :, :3]
    return poses


def fit_rotation(rays_in_a: Array, rays_in_b: Array) -> Array:
    """(3, 3) b_from_a that best turns (M, 3) unit rays of a into those of b, in spite of outliers (Cauchy
    weights)."""
    weights = np.ones(len(rays_in_a))
    rotation = np.eye(3)
    for _ in range(IRLS_ITERATIONS):
        u, _, vt = np.linalg.svd((rays_in_b * weights[:, None]).T @ rays_in_a)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        squared = np.square(rays_in_b - rays_in_a @ rotation.T).sum(axis=1)
        weights = 1.0 / (1.0 + squared / max(float(np.median(squared)), 1e-14))
    return rotation


def _widest_pairs(graph: ViewGraph) -> NDArray[np.intp]:
    """Rows of the pairs at the widest spacing at which at least half of the possible pairs were verified."""
    spacing = graph.pairs[:, 1] - graph.pairs[:, 0]
    for widest in np.unique(spacing)[::-1]:
        rows = np.flatnonzero(spacing == widest)
        if 2 * len(rows) >= len(graph.keypoints) - widest:
            return rows
    return np.flatnonzero(spacing == spacing.min()) if len(spacing) else np.zeros(0, np.intp)


def _pair_residual_px(graph: ViewGraph, row: int, intrinsics: Array, focal_factor: float) -> float:
    rays_in_a, rays_in_b = _matched_rays(graph, row, intrinsics, focal_factor)
    rotation = fit_rotation(rays_in_a, rays_in_b)
    offsets = np.linalg.norm(rays_in_b - rays_in_a @ rotation.T, axis=1)
    focal_px = focal_factor * float(intrinsics[graph.pairs[row, 1], 0, 0])
    return float(np.quantile(offsets, RESIDUAL_QUANTILE)) * focal_px


def _matched_rays(graph: ViewGraph, row: int, intrinsics: Array, focal_factor: float) -> tuple[Array, Array]:
    """Unit rays (M, 3) of the matches of a pair, in both cameras."""
    a, b = graph.pairs[row]
    points = graph.matched_points(row)
    return _rays(points[0], intrinsics[a], focal_factor), _rays(points[1], intrinsics[b], focal_factor)


def _rays(points: Array, intrinsics: Array, focal_factor: float) -> Array:
    focal = focal_factor * np.array([intrinsics[0, 0], intrinsics[1, 1]])
    rays = np.ones((len(points), 3))
    rays[:, :2] = (points - intrinsics[:2, 2]) / focal
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)
