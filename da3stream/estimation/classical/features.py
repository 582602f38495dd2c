"""Matching the features of two images."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.features import MAX_FEATURES, Features, extract_features

__all__ = ["MAX_FEATURES", "Features", "extract_features", "match_features"]

RATIO = 0.8
"""A match must be this much closer than the second-best candidate."""


def match_features(first: Features, second: Features) -> NDArray[np.int32]:
    """(M, 2) rows of `first` and `second` that are each other's nearest neighbours and pass the ratio test.

    All distances are exact integers, so the result does not depend on how the matrix product is summed.
    """
    if len(first.points) < 2 or len(second.points) < 2:
        return np.zeros((0, 2), np.int32)
    distances = _squared_distances(first.descriptors, second.descriptors)
    rows = np.arange(len(distances))
    nearest = distances.argmin(axis=1)
    nearest_distance = distances[rows, nearest]
    mutual = distances.argmin(axis=0)[nearest] == rows
    distances[rows, nearest] = np.inf
    distinct = nearest_distance < RATIO**2 * distances.min(axis=1)
    kept = np.flatnonzero(mutual & distinct)
    return np.stack([kept, nearest[kept]], axis=1).astype(np.int32)


def _squared_distances(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(K, L) squared Euclidean distances of (K, 128) and (L, 128) descriptors."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    # OpenCV's product is single-threaded: at this size the threads of a BLAS cost several times what they
    # save.
    distances: NDArray[np.float32] = cv2.gemm(a, b, -2.0, None, 0.0, flags=cv2.GEMM_2_T)
    distances += np.square(a).sum(axis=1)[:, None]
    distances += np.square(b).sum(axis=1)
    return distances
