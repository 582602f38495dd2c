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
        features = _extract(pixels)
        with _recent_lock:
            _recent[key] = features
            while len(_recent) > REMEMBERED_IMAGES:
                del _recent[next(iter(_recent))]  # the oldest
    return features


def _extract(image: NDArray[np.uint8]) -> Features:
    sift = cv2.SIFT.create(
        nfeatures=MAX_FEATURES, contrastThreshold=CONTRAST_THRESHOLD, enable_precise_upscale=True
    )
    keypoints, sift_descriptors = sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    if not keypoints:
        return Features(points=np.zeros((0, 2), np.float32), descriptors=np.zeros((0, 128), np.uint8))
    points = np.array([keypoint.pt for keypoint in keypoints], dtype=np.float32) + np.float32(0.5)
    return Features(points=points, descriptors=_root_sift(sift_descriptors))


def _root_sift(descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
    total = np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)
    return np.clip(np.rint(512.0 * np.sqrt(descriptors / total)), 0, 255).astype(np.uint8)
