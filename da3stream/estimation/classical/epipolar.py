"""How well estimated poses explain the verified matches of a chunk."""

from __future__ import annotations

from da3stream.estimation.classical.reconstruction import Reconstruction
from da3stream.estimation.classical.view_graph import ViewGraph
from da3stream.geometry.epipolar import fundamental_matrix, squared_sampson_error

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
            fundamental = fundamental_matrix(
                *reconstruction.cam_from_submap[[first, second]], *reconstruction.intrinsics[[first, second]]
            )
            squared_px = squared_sampson_error(fundamental, *graph.matched_points(row))
            total += float((1.0 / (1.0 + squared_px / SOFT_INLIER_PX**2)).sum())
    return total / graph.num_matches
