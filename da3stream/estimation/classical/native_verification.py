"""Two-view verification by pycolmap. Imported by worker processes only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from da3stream.estimation.classical.native_camera import pinhole
from da3stream.estimation.classical.view_graph import TwoView, ViewGraph

MAX_ERROR_PX = 2.0
MIN_MATCHES = 15


def verify(
    graph: ViewGraph, intrinsics: NDArray[np.float64], size: tuple[int, int], *, focal_known: bool, seed: int
) -> ViewGraph:
    """The same pairs with the matches that a two-view geometry explains; M = 0 where none was found.

    Every pair is verified with the same seed, so the result for a pair does not depend on its neighbours.
    """
    options = pycolmap.TwoViewGeometryOptions()
    options.min_num_inliers = MIN_MATCHES
    options.detect_watermark = False
    options.ransac.max_error = MAX_ERROR_PX
    options.ransac.random_seed = seed
    cameras = [pinhole(matrix, size, focal_known=focal_known) for matrix in intrinsics]
    verified = []
    for row, (first, second) in enumerate(graph.pairs):
        points = graph.matched_points(row)
        rows = np.repeat(np.arange(len(points[0]), dtype=np.uint32)[:, None], 2, axis=1)
        found = pycolmap.estimate_two_view_geometry(
            cameras[first], points[0], cameras[second], points[1], rows, options
        )
        verified.append(_two_view(found, graph.two_views[row].matches))
    return ViewGraph(keypoints=graph.keypoints, pairs=graph.pairs, two_views=tuple(verified))


def _two_view(found: Any, candidates: NDArray[np.int32]) -> TwoView:
    kept = np.asarray(found.inlier_matches, dtype=np.int64).reshape(-1, 2)[:, 0]
    if len(kept) < MIN_MATCHES:
        kept = kept[:0]
    return TwoView(
        matches=candidates[kept],
        kind=int(found.config),
        fundamental=_matrix(found.F),
        essential=_matrix(found.E),
        homography=_matrix(found.H),
    )


def _matrix(matrix: Any) -> NDArray[np.float64]:
    return np.full((3, 3), np.nan) if matrix is None else np.array(matrix, dtype=np.float64)
