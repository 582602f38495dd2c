"""Estimates of one frame become one; then frames check each other."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.dense.maps import Estimate
from da3stream.estimation.classical.dense.views import Rays, Views, pixel_centres

MIN_CONFIDENCE, MAX_CONFIDENCE = 2.0, 100.0
AGREEMENT_SIGMAS = 2.0
"""Two estimates agree if they differ by at most this many standard deviations of their difference."""
MAX_DISAGREEMENT = 0.15
"""... and by at most this share of the inverse depth."""
FLOOR = 0.01
"""Least relative standard deviation granted in a comparison: poses and interpolation err too."""

Float32 = NDArray[np.float32]


def combine(estimates: Sequence[Estimate]) -> Estimate:
    """Per pixel, the estimate with the most support, averaged with those that agree with it.

    Errors of methods that look at the same images are correlated, so agreement does not add up: the
    confidence is that of the best supporter.
    """
    if len(estimates) == 1:
        return estimates[0]
    inverse_depth = np.stack([e.inverse_depth for e in estimates])
    confidence = np.stack([e.confidence for e in estimates])
    agree = _agreement(inverse_depth, confidence)
    weight = confidence * confidence
    support = (agree * weight[None]).sum(axis=1)
    support[confidence == 0] = 0
    chosen = support.argmax(axis=0)[None, None]
    weight = np.where(np.take_along_axis(agree, chosen, axis=0)[0], weight, 0)
    total = weight.sum(axis=0)
    return Estimate(
        inverse_depth=(weight * inverse_depth).sum(axis=0) / np.maximum(total, np.float32(1e-20)),
        confidence=np.sqrt(weight.max(axis=0)),
    )


def _agreement(inverse_depth: Float32, confidence: Float32) -> NDArray[np.bool_]:
    """(K, K, h, w) True where two of K estimates agree; an estimate agrees with itself."""
    std = np.where(confidence > 0, inverse_depth / np.maximum(confidence, 1e-6), 0).astype(np.float32)
    count = len(inverse_depth)
    agree = np.ones((count, count, *inverse_depth.shape[1:]), dtype=bool)
    for k in range(count):
        for other in range(k):
            gap = np.abs(inverse_depth[k] - inverse_depth[other])
            allowed = AGREEMENT_SIGMAS * np.sqrt(std[k] ** 2 + std[other] ** 2)
            limit = MAX_DISAGREEMENT * np.maximum(inverse_depth[k], inverse_depth[other])
            agree[k, other] = agree[other, k] = gap <= np.minimum(allowed, limit)
    return agree


def cross_check(
    views: Views, reference: int, others: Sequence[int], estimates: Sequence[Estimate]
) -> Estimate:
    """Keep what other frames confirm, averaged with them.

    At least two must (one, where fewer than three are compared), and no fewer than see through the point to
    something behind it. Those that see something before it may just be occluded.

    The confidence is multiplied by sqrt(confirmations / 4): at triangulated points of real clips, the errors
    then are what the confidence says for any number of confirmations. What moves by itself, repeats or is
    noise is not confirmed.
    """
    own = estimates[reference]
    weight = own.confidence * own.confidence
    moment = weight * own.inverse_depth
    confirmations, violations = np.zeros_like(weight), np.zeros_like(weight)
    for other in others:
        seen = seen_from(views, reference, other, estimates)
        confirmed = _confirms(own, seen)
        addition = np.where(confirmed, seen.confidence * seen.confidence, np.float32(0))
        weight, moment = weight + addition, moment + addition * seen.inverse_depth
        confirmations += confirmed
        violations += (seen.confidence > 0) & ~confirmed & (seen.inverse_depth < own.inverse_depth)
    kept = confirmations >= np.maximum(2 if len(others) >= 3 else 1, violations)
    confidence = np.minimum(
        own.confidence * np.sqrt(confirmations / np.float32(4)), np.float32(MAX_CONFIDENCE)
    )
    kept &= confidence >= MIN_CONFIDENCE
    return Estimate(
        inverse_depth=np.where(kept, moment / np.maximum(weight, np.float32(1e-20)), own.inverse_depth),
        confidence=np.where(kept, confidence, np.float32(0)),
    )


def _confirms(own: Estimate, seen: Estimate) -> NDArray[np.bool_]:
    """True where both have an estimate and differ by no more than their standard deviations explain."""
    known = (own.confidence > 0) & (seen.confidence > 0)
    variance = np.float32(2 * FLOOR**2) + sum(
        1 / np.square(np.maximum(e.confidence, np.float32(1e-3))) for e in (own, seen)
    )
    allowed = np.minimum(AGREEMENT_SIGMAS * np.sqrt(variance), MAX_DISAGREEMENT) * own.inverse_depth
    return known & (np.abs(seen.inverse_depth - own.inverse_depth) < allowed)


def seen_from(views: Views, reference: int, other: int, estimates: Sequence[Estimate]) -> Estimate:
    """What another frame's estimate says at the pixels of the reference, found through its own depth.

    The inverse depth is carried over to first order: the ratio of the other frame's to the one predicted
    there. Confidence is 0 where the point is outside, behind, or unknown to the other frame.
    """
    own, theirs = estimates[reference], estimates[other]
    x, y = pixel_centres(views.size)
    pair = views.pair(reference, other)
    rays = Rays.at(pair, x, y)
    bx, by, bz = (np.float32(value) for value in pair.epipole)
    w = own.inverse_depth
    z = rays.z + w * bz
    usable = (z > 1e-6) & (own.confidence > 0)
    z = np.where(usable, z, np.float32(1))
    half = np.float32(0.5)
    map_x, map_y = (rays.x + w * bx) / z - half, (rays.y + w * by) / z - half
    found = cv2.remap(theirs.inverse_depth, map_x, map_y, cv2.INTER_NEAREST)
    confidence = cv2.remap(theirs.confidence, map_x, map_y, cv2.INTER_NEAREST)
    # A point with inverse depth w here has w / z there.
    return Estimate(inverse_depth=found * z, confidence=np.where(usable, confidence, np.float32(0)))
