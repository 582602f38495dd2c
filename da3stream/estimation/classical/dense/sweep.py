"""Depth from a plane sweep (Collins, CVPR 1996): correlation on 64 planes, then semi-global matching."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.dense.correlation import Features, unsupported_error_px, window_mean
from da3stream.estimation.classical.dense.depth_range import DepthRange
from da3stream.estimation.classical.dense.maps import Estimate
from da3stream.estimation.classical.dense.neighbours import Sources
from da3stream.estimation.classical.dense.semi_global import MAX_COST, aggregate, jump_penalties
from da3stream.estimation.classical.dense.triangulation import sensitivity_px
from da3stream.estimation.classical.dense.views import PairGeometry, Rays, Views, pixel_centres

PLANES = 64
BASE_ERROR_PX, WEAK_MARGIN = 0.12, 85.0
"""Model of the localisation error: BASE + (WEAK_MARGIN / margin)^2 + what is added for want of correlation.
Fitted to the errors at triangulated points of two clips."""
OURS_FROM_OPENCV = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
"""Pixels whose centre of the top-left pixel is (0.5, 0.5), from OpenCV's, where it is (0, 0)."""
DOUBLED_FROM_SINGLE = np.diag([2.0, 2.0, 1.0])
OPENCV_FROM_OURS = np.linalg.inv(OURS_FROM_OPENCV)

Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]
Int16 = NDArray[np.int16]


def cost_volume(
    reference: Features,
    sides: Sequence[Sequence[Features]],
    pairs: Sequence[Sequence[PairGeometry]],
    searched: DepthRange,
) -> UInt8:
    """(PLANES, h, w) costs, 0 at correlation 1 and MAX_COST at -1, by plane.

    Correlation is averaged over the sources of a side, earlier or later frames, and the better side counts:
    what is hidden in the earlier frames is often visible in the later ones. A source that does not see a
    point votes 0.
    """
    volume = np.empty((PLANES, *reference.normalised.shape), dtype=np.uint8)
    for plane, inverse_depth in zip(volume, np.linspace(searched.far, searched.near, PLANES), strict=True):
        best = _correlation(reference, sides[0], pairs[0], inverse_depth)
        for images, geometry in zip(sides[1:], pairs[1:], strict=True):
            np.maximum(best, _correlation(reference, images, geometry, inverse_depth), out=best)
        np.clip((1 - best) * np.float32(MAX_COST / 2), 0, MAX_COST, out=plane, casting="unsafe")
    return volume


def _correlation(
    reference: Features, images: Sequence[Features], pairs: Sequence[PairGeometry], inverse_depth: float
) -> Float32:
    """(h, w) mean correlation in a window between the reference and the images, warped by the plane."""
    total = np.zeros_like(reference.normalised)
    size = total.shape[::-1]
    for image, pair in zip(images, pairs, strict=True):
        doubled_from_reference = DOUBLED_FROM_SINGLE @ pair.plane_homography(inverse_depth)
        homography = OPENCV_FROM_OURS @ doubled_from_reference @ OURS_FROM_OPENCV
        total += cv2.warpPerspective(
            image.doubled, homography, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        )
    total *= reference.normalised
    total *= np.float32(1 / len(images))
    return window_mean(total)


def sweep_estimate(
    views: Views, features: Sequence[Features], reference: int, sources: Sources, searched: DepthRange
) -> Estimate:
    """Depth of `reference` from its sources; `features` are those of all views."""
    if not sources.sides:
        return Estimate.nothing(views.size)
    pairs = [[views.pair(reference, source) for source in side] for side in sources.sides]
    images = [[features[source] for source in side] for side in sources.sides]
    cost = cost_volume(features[reference], images, pairs, searched)
    total = aggregate(cost, jump_penalties(views.grey[reference]))
    plane = total.argmin(axis=0)[None]
    position = plane[0] + _vertex_offset(total, plane)
    step = (searched.near - searched.far) / (PLANES - 1)
    inverse_depth = (searched.far + position * step).astype(np.float32)
    no_margin_px = np.square(np.float32(WEAK_MARGIN) / np.maximum(_margin(total, plane), np.float32(1)))
    unsupported_px = unsupported_error_px(window_mean(_correlation_at(cost, plane)))
    error_px = np.float32(BASE_ERROR_PX) + no_margin_px + unsupported_px
    parallax_px = inverse_depth * _mean_sensitivity_px(views, reference, pairs, inverse_depth)
    return Estimate(inverse_depth=inverse_depth, confidence=parallax_px / error_px)


def _vertex_offset(total: Int16, plane: NDArray[np.intp]) -> Float32:
    """Offset in planes, within +-0.5, of the parabola through the best plane and those beside it."""
    inner = plane.clip(1, PLANES - 2)
    below, centre, above = (
        np.take_along_axis(total, inner + k, axis=0)[0].astype(np.float32) for k in (-1, 0, 1)
    )
    curvature = np.maximum(below + above - 2 * centre, np.float32(1))
    offset = np.clip((below - above) / (2 * curvature), -0.5, 0.5)
    return np.where((inner == plane)[0], offset, np.float32(0))


def _correlation_at(cost: UInt8, plane: NDArray[np.intp]) -> Float32:
    """(h, w) correlation in [-1, 1] at the chosen planes."""
    chosen = np.take_along_axis(cost, plane, axis=0)[0].astype(np.float32)
    return 1 - chosen * np.float32(2 / MAX_COST)


def _margin(total: Int16, plane: NDArray[np.intp]) -> Float32:
    """How much more the cheapest plane costs that is not within two planes of the best one."""
    others = total.copy()
    for offset in range(-2, 3):
        np.put_along_axis(others, (plane + offset).clip(0, PLANES - 1), np.iinfo(np.int16).max, axis=0)
    best = np.take_along_axis(total, plane, axis=0)[0]
    return (others.min(axis=0) - best).astype(np.float32)


def _mean_sensitivity_px(
    views: Views, reference: int, sides: Sequence[Sequence[PairGeometry]], inverse_depth: Float32
) -> Float32:
    """Root mean square over the sources of the pixels moved per unit of inverse depth."""
    x, y = pixel_centres(views.size)
    pairs = [pair for side in sides for pair in side]
    squares = [sensitivity_px(pair, Rays.at(pair, x, y), inverse_depth) ** 2 for pair in pairs]
    return np.sqrt(np.mean(squares, axis=0, dtype=np.float32))
