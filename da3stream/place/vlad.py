"""Place descriptors without trained weights: VLAD over RootSIFT.

Residuals of local features to their visual word are summed per word (Jegou et al., "Aggregating local
descriptors into a compact image representation", CVPR 2010), every word's sum is brought to unit length so
that repeated texture does not dominate (intra-normalisation: Arandjelovic and Zisserman, "All about VLAD",
CVPR 2013), then the signed power law and unit length (Jegou et al., PAMI 2012).

No PCA whitening: learnt from so few frames of one video it did not help on the clips that were measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.features import extract_features
from da3stream.place.vocabulary import VladVocabulary

_POWER = 0.5


class VladDescriptor:
    """A `PlaceDescriptor` that needs nothing but a vocabulary, which the video's first frames teach.

    A run keeps the `local_features` of its first `TRAINING_FRAMES` frames (at most 128 KB each), trains a
    vocabulary on them, describes them with `describe_features`, and every later frame with `describe`.
    """

    name = "vlad"

    def __init__(self, vocabulary: VladVocabulary) -> None:
        self.vocabulary = vocabulary
        self.dim = vocabulary.centres.size

    @staticmethod
    def local_features(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(K, 128) RootSIFT descriptors of an (H, W, 3) RGB image, K at most about 1,000."""
        return extract_features(image).descriptors

    def describe(self, images: NDArray[np.uint8], *, indices: NDArray[Any]) -> NDArray[np.float32]:
        """(N, dim) float32 of unit length for images (N, H, W, 3) uint8 RGB with frame indices (N,)."""
        return self.describe_features([self.local_features(image) for image in images], indices=indices)

    def describe_features(
        self, features: Sequence[NDArray[np.uint8]], *, indices: NDArray[Any]
    ) -> NDArray[np.float32]:
        """(N, dim) float32 of unit length for the local features (K, 128) of N frames.

        An image without features shows no place: it gets a random direction, drawn from its index, which is
        like no other.
        """
        described = np.zeros((len(indices), self.dim), np.float32)
        for row, (descriptors, index) in enumerate(zip(features, indices, strict=True)):
            if len(descriptors):
                described[row] = aggregate(descriptors, self.vocabulary.centres)
            else:
                described[row] = random_direction(int(index), self.dim)
        return described


def aggregate(descriptors: NDArray[np.uint8], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """(words * D,) VLAD of unit length of (K, D) local descriptors, K >= 1, and (words, D) centres."""
    points = descriptors.astype(np.float32)
    word = np.argmin(np.square(centres).sum(axis=1) - 2 * points @ centres.T, axis=1)
    sums = np.zeros_like(centres)
    np.add.at(sums, word, points - centres[word])
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    powered = np.sign(sums) * np.abs(sums) ** _POWER
    return (powered / np.linalg.norm(powered)).ravel()


def random_direction(index: int, dim: int) -> NDArray[np.float32]:
    """(dim,) of unit length, drawn from a frame index: like no other, for a frame that shows no place."""
    direction = np.random.default_rng(index).normal(size=dim)
    return (direction / np.linalg.norm(direction)).astype(np.float32)
