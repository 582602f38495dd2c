"""The visual words of VLAD: cluster centres of local descriptors, learnt from the video itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import EstimationError

WORDS = 64
TRAINING_FRAMES = 300
"""How many frames at the beginning of a video a vocabulary is learnt from; more add nothing but time."""
FEATURE_DIM = 128
_FEATURES_PER_WORD = 512
_ITERATIONS = 20


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VladVocabulary:
    """Fixed once trained: descriptors made with different vocabularies cannot be compared."""

    centres: NDArray[np.float32]
    """(words, 128) cluster centres of RootSIFT descriptors; all that has to be stored in a run."""

    def __post_init__(self) -> None:
        if self.centres.ndim != 2 or self.centres.shape[1] != FEATURE_DIM or not len(self.centres):
            raise ValueError(f"centres must be (words, {FEATURE_DIM}), got {self.centres.shape}")

    @classmethod
    def train(
        cls, features: Sequence[NDArray[np.uint8]], *, words: int = WORDS, seed: int = 0
    ) -> VladVocabulary:
        """k-means over the features of some frames (Jegou et al., CVPR 2010, section 3).

        Equal features in equal order give an equal vocabulary.

        Args:
            features: (K, 128) local descriptors of every frame, see `VladDescriptor.local_features`.
            words: number of centres.
            seed: of the choice of features and of the first centres.

        Raises:
            EstimationError: the frames hold fewer features than words.
        """
        pool = np.concatenate([np.zeros((0, FEATURE_DIM), np.uint8), *features])
        if len(pool) < words:
            raise EstimationError(
                "the frames show too little texture to learn a vocabulary of places from",
                got=f"{len(pool)} features in {len(features)} frames",
                expected=f"at least {words}",
                hint="Use --place salad, or --no-loop.",
            )
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(pool))[: words * _FEATURES_PER_WORD]
        return cls(centres=_cluster(pool[np.sort(chosen)].astype(np.float32), words, seed))


def _cluster(points: NDArray[np.float32], words: int, seed: int) -> NDArray[np.float32]:
    """(words, D) centres of (N, D) points."""
    import faiss

    clustering = faiss.Kmeans(
        points.shape[1],
        words,
        niter=_ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    clustering.train(points)
    return np.array(clustering.centroids, dtype=np.float32)
