"""Depth where nothing was measured."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.dense.depth_range import DepthRange
from da3stream.estimation.classical.dense.maps import Estimate

FILLED_CONFIDENCE = 0.01
SKY_CONTRAST = 3.0
"""Largest standard deviation of grey over 5x5 pixels in the sky."""

Float32 = NDArray[np.float32]


def fill(measured: Estimate, anchor: Float32, grey: NDArray[np.uint8], expected: DepthRange) -> Estimate:
    """A complete map: the sky at the horizon, other holes by push-pull from what is around them.

    Confidence is 0.01 in holes and 0 at the horizon. Without anything to fill from, the map is the median
    depth.

    Args:
        measured: confidence 0 marks the holes.
        anchor: (h, w) inverse depth of triangulated points, 0 where there is none; used in holes only.
        grey: (h, w) image.
        expected: the frame's range of depths.
    """
    known = measured.confidence > 0
    given = known | (anchor > 0)
    seeds = np.where(known, measured.inverse_depth, anchor)
    complete = push_pull(seeds, given) if given.any() else np.full_like(seeds, expected.median)
    horizon = np.float32(expected.horizon)
    far = complete <= horizon
    if expected.is_open:
        far |= sky_mask(measured, grey) & (anchor == 0)
    confidence = np.where(known, measured.confidence, np.float32(FILLED_CONFIDENCE))
    return Estimate(
        inverse_depth=np.where(far, horizon, complete), confidence=np.where(far, np.float32(0), confidence)
    )


def push_pull(values: Float32, known: NDArray[np.bool_]) -> Float32:
    """`values` where known (at least at one pixel), elsewhere means over ever larger surroundings.

    Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4.
    """
    weight = known.astype(np.float32)
    pulled = _push_pull(np.where(known, values, np.float32(0)), weight)
    return np.where(known, values, pulled)


def _push_pull(weighted: Float32, weight: Float32) -> Float32:
    """Recursion over a pyramid: `weighted` holds value x weight, weights lie in [0, 1]."""
    mean: Float32 = np.divide(weighted, np.maximum(weight, np.float32(1e-12)), dtype=np.float32)
    height, width = weight.shape
    if weight.min() >= 1 or (height == 1 and width == 1):
        return mean
    smaller = ((width + 1) // 2, (height + 1) // 2)
    pushed = cv2.resize(weighted, smaller, interpolation=cv2.INTER_AREA)
    pushed_weight = cv2.resize(weight, smaller, interpolation=cv2.INTER_AREA)
    # Four pixels, one of them known, give a full weight: then near pixels count more than many far ones.
    gain = np.minimum(1, 4 * pushed_weight) / np.maximum(pushed_weight, np.float32(1e-12))
    coarse = _push_pull(pushed * gain, pushed_weight * gain)
    pulled = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return weight * mean + (np.float32(1) - weight) * pulled


def sky_mask(measured: Estimate, grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(h, w) True in unmeasured regions that look like sky: at the top, plain, bright, behind what is around.

    Meant for open scenes. Bright is above the median of the frame; behind is around the median depth of the
    frame or farther, as measured within 7 pixels of the region.
    """
    image = grey.astype(np.float32)
    mean = cv2.boxFilter(image, -1, (5, 5))
    variance = cv2.boxFilter(image * image, -1, (5, 5)) - mean * mean
    known = measured.confidence > 0
    plain = (variance < SKY_CONTRAST**2) & (mean > np.median(image)) & ~known
    _, labels = cv2.connectedComponents(plain.astype(np.uint8))
    sky = np.zeros_like(known)
    usual = np.median(measured.inverse_depth[known]) if known.any() else 0
    for label in np.unique(labels[0][plain[0]]):
        region = labels == label
        around = cv2.dilate(region.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool) & known
        if around.any() and np.median(measured.inverse_depth[around]) <= usual:
            sky |= region
    return sky
