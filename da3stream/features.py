"""Keypoints and descriptors of one image: a leaf, so that several stages can share them.

SIFT (Lowe, IJCV 2004) with RootSIFT descriptors (Arandjelovic and Zisserman, CVPR 2012).
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_FEATURES = 1000
CONTRAST_THRESHOLD = 0.01
RATIO = 0.8
"""A match must be this much closer than the second-best candidate."""
REMEMBERED_IMAGES = 256
"""Their features take at most 34 MB. An estimator is up to two chunks ahead of who describes places."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Features:
    """Local features of one image."""

    points: NDArray[np.float32]
    """(K, 2) x, y in pixels; the centre of the top-left pixel is (0.5, 0.5)."""
    descriptors: NDArray[np.uint8]
    """(K, 128) RootSIFT times 512, so that inner products are integers that float32 holds exactly."""


_recent: dict[tuple[bytes, tuple[int, ...]], Features] = {}
_recent_lock = threading.Lock()


def extract_features(image: NDArray[np.uint8]) -> Features:
    """At most about `MAX_FEATURES` features of an (H, W, 3) RGB image.

    Those of the last `REMEMBERED_IMAGES` images are kept: stages that look at the same chunk, in whichever
    thread, share the work.
    """
    pixels = np.ascontiguousarray(image)
    key = (hashlib.blake2b(pixels.data, digest_size=16).digest(), pixels.shape)
    features = _recent.get(key)
    if features is None:
        features = detect_features(pixels, MAX_FEATURES)
        with _recent_lock:
            _recent[key] = features
            while len(_recent) > REMEMBERED_IMAGES:
                del _recent[next(iter(_recent))]  # the oldest
    return features


def detect_features(image: NDArray[np.uint8], count: int) -> Features:
    """The strongest features of an (H, W, 3) RGB image, at most about `count` of them."""
    sift = cv2.SIFT.create(nfeatures=count, contrastThreshold=CONTRAST_THRESHOLD, enable_precise_upscale=True)
    keypoints, sift_descriptors = sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    if not keypoints:
        return Features(points=np.zeros((0, 2), np.float32), descriptors=np.zeros((0, 128), np.uint8))
    points = np.array([keypoint.pt for keypoint in keypoints], dtype=np.float32) + np.float32(0.5)
    return Features(points=points, descriptors=_root_sift(sift_descriptors))


def _root_sift(descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
    total = np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)
    return np.clip(np.rint(512.0 * np.sqrt(descriptors / total)), 0, 255).astype(np.uint8)


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
