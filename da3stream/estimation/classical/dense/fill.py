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
SKY_BRIGHTNESS = 0.75
"""Least grey level of the sky, as a share of the brightest 5 % of the frame."""

Float32 = NDArray[np.float32]


def fill(measured: Estimate, grey: NDArray[np.uint8], expected: DepthRange) -> Estimate:
    """A complete map: holes by push-pull (Gortler et al., SIGGRAPH 1996, section 3.4) and the sky at the horizon.

    Confidence is 0.01 in holes and 0 at the horizon. Without any measured pixel the map is the median depth.
    """
    known = measured.confidence > 0
    if not known.any():
        flat = np.full(grey.shape, expected.median, dtype=np.float32)
        return Estimate(inverse_depth=flat, confidence=np.full_like(flat, FILLED_CONFIDENCE))
    inverse_depth = np.where(known, measured.inverse_depth, push_pull(measured.inverse_depth, known))
    confidence = np.where(known, measured.confidence, np.float32(FILLED_CONFIDENCE))
    horizon = np.float32(expected.horizon)
    far = (sky_mask(grey) & ~known) | (inverse_depth <= horizon)
    return Estimate(
        inverse_depth=np.where(far, horizon, inverse_depth), confidence=np.where(far, np.float32(0), confidence)
    )


def push_pull(values: Float32, known: NDArray[np.bool_]) -> Float32:
    """`values` where known, elsewhere means over ever larger surroundings; at least one pixel must be known."""
    weight = known.astype(np.float32)
    return _push_pull(np.where(known, values, np.float32(0)), weight)


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


def sky_mask(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(h, w) True in the bright, textureless region that touches the top row."""
    image = grey.astype(np.float32)
    mean = cv2.boxFilter(image, -1, (5, 5))
    variance = cv2.boxFilter(image * image, -1, (5, 5)) - mean * mean
    plain = (variance < SKY_CONTRAST**2) & (mean > SKY_BRIGHTNESS * np.percentile(image, 95))
    _, labels = cv2.connectedComponents(plain.astype(np.uint8))
    touching = np.unique(labels[0][plain[0]])
    return np.isin(labels, touching)
