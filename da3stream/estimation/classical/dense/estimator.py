"""Dense depth of a chunk with known cameras: flow and plane sweep, fused and checked between frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.errors import EstimationError
from da3stream.estimation.classical.dense.anchors import anchor_maps, median_disagreement
from da3stream.estimation.classical.dense.correlation import Features
from da3stream.estimation.classical.dense.depth_range import DepthRange, depth_ranges
from da3stream.estimation.classical.dense.fill import fill
from da3stream.estimation.classical.dense.flow import estimates_from_flow
from da3stream.estimation.classical.dense.fusion import MIN_CONFIDENCE, combine, cross_check
from da3stream.estimation.classical.dense.maps import DenseMaps, Estimate, SparseDepth
from da3stream.estimation.classical.dense.neighbours import flow_pairs, measure_parallax, sweep_sources
from da3stream.estimation.classical.dense.sweep import sweep_estimate
from da3stream.estimation.classical.dense.views import LONG_SIDE_PX, Views, small_views

WORKERS = 2
MIN_SIDE_PX = 32
"""OpenCV's flow reads beyond the ends of its pyramid for images much smaller than this."""


def dense_depth(
    images: NDArray[np.uint8],
    intrinsics: NDArray[np.float64],
    cam_from_submap: NDArray[np.float64],
    *,
    sparse: SparseDepth | None = None,
) -> DenseMaps:
    """Depth and confidence of every pixel, at a long side of at most 336 pixels.

    A pure function of its arguments: the result does not depend on the number of threads.

    Args:
        images: (N, H, W, 3) uint8 RGB, in the order in which they were taken.
        intrinsics: (N, 3, 3) in pixels of `images`; the centre of the top-left pixel is (0.5, 0.5).
        cam_from_submap: (N, 3, 4) submap to camera (OpenCV axes), of any scale.
        sparse: triangulated points. They tell which depths to search (otherwise a fast optical flow does),
            help to fill what cannot be measured, and are compared with the result.

    Raises:
        EstimationError: shapes do not go together, or a camera is not finite.
    """
    _check(images, intrinsics, cam_from_submap, sparse)
    views = small_views(images, intrinsics, cam_from_submap)
    anchors = anchor_maps(sparse, len(views), (images.shape[2], images.shape[1]), views.size)
    with _one_opencv_thread():
        complete = _estimates(views, depth_ranges(views, sparse), anchors)
    return DenseMaps(
        depth=np.stack([1 / e.inverse_depth for e in complete]),
        confidence=np.stack([e.confidence for e in complete]),
        intrinsics=views.intrinsics,
        sparse_disagreement=median_disagreement(anchors, complete, MIN_CONFIDENCE),
    )


def _estimates(
    views: Views, ranges: Sequence[DepthRange], anchors: Sequence[NDArray[np.float32]]
) -> list[Estimate]:
    """The complete maps of all frames."""
    frames = range(len(views))
    parallax = measure_parallax(views, np.array([r.median for r in ranges]))
    sources = [sweep_sources(parallax, i) for i in frames]
    features = [Features.of(grey) for grey in views.grey]
    with ThreadPoolExecutor(WORKERS) as pool:
        swept = pool.map(partial(sweep_estimate, views, features), frames, sources, ranges)
        by_flow = estimates_from_flow(views, features, flow_pairs(parallax), pool)
        fused = list(pool.map(combine, ([*flow, sweep] for flow, sweep in zip(by_flow, swept, strict=True))))
        checked = pool.map(lambda i: cross_check(views, i, sources[i].all, fused), frames)
        return list(pool.map(fill, checked, anchors, views.grey, ranges))


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """OpenCV on one thread: frames run in parallel, and some algorithms split their work by thread count."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _check(
    images: NDArray[np.uint8],
    intrinsics: NDArray[np.float64],
    cam_from_submap: NDArray[np.float64],
    sparse: SparseDepth | None,
) -> None:
    """Raise EstimationError for arguments that do not go together."""
    _check_images(images)
    n = len(images)
    _check_matrices("intrinsics of dense depth", intrinsics, (n, 3, 3))
    _check_matrices("cam_from_submap of dense depth", cam_from_submap, (n, 3, 4))
    if sparse is not None and len(sparse.depths) != n:
        raise EstimationError(
            "sparse depth is of other frames", got=f"{len(sparse.depths)} frames", expected=n
        )


def _check_images(images: NDArray[np.uint8]) -> None:
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise EstimationError(
            "dense depth needs RGB images",
            got=f"{images.shape} {images.dtype}",
            expected="(N, H, W, 3) uint8, N > 0",
        )
    height, width = images.shape[1:3]
    if min(height, width) * min(1.0, LONG_SIDE_PX / max(height, width)) < MIN_SIDE_PX:
        raise EstimationError(
            "images are too small for dense depth",
            got=f"{width}x{height}",
            expected=f"at least {MIN_SIDE_PX} pixels on the short side once the long one has {LONG_SIDE_PX}",
        )


def _check_matrices(name: str, matrices: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    if matrices.shape != shape:
        raise EstimationError(f"wrong shape of {name}", got=matrices.shape, expected=shape)
    if not np.isfinite(matrices).all():
        bad = np.flatnonzero(~np.isfinite(matrices).all(axis=(1, 2)))
        raise EstimationError(f"{name} are not all finite", got=f"frames {bad.tolist()}", expected="numbers")
