"""From the images of a chunk to its view graph; features and verified pairs are remembered between chunks."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import EstimationError
from da3stream.estimation.classical import jobs
from da3stream.estimation.classical.features import Features, extract_features, match_features
from da3stream.estimation.classical.memo import Memo
from da3stream.estimation.classical.view_graph import OFFSETS, TwoView, ViewGraph, candidate_pairs
from da3stream.estimation.classical.wire import Message
from da3stream.estimation.classical.worker_pool import WORKERS, WorkerPool

ImageKey = tuple[int, int]
"""Frame index and CRC-32 of the pixels: the same index can come with other pixels (a stored JPEG)."""
PairKey = tuple[ImageKey, ImageKey, bytes]

REMEMBERED_CHUNKS = 2
"""Results are kept for this many chunks of the present length: enough for the overlap with the next."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibration:
    """Intrinsics of N images of one size: those given, or a first guess."""

    intrinsics: NDArray[np.float64]
    """(N, 3, 3) in pixels of the images."""
    size: tuple[int, int]
    """(width, height) in pixels."""
    known: bool
    """False where the focal is a guess."""


class ChunkMatcher:
    """Extracts, matches and verifies. The memory of earlier chunks saves time and changes no result."""

    def __init__(self, pool: WorkerPool, *, seed: int) -> None:
        self._pool, self._seed = pool, seed
        self._features: Memo[ImageKey, Features] = Memo()
        self._two_views: Memo[PairKey, TwoView] = Memo()

    def match(
        self, images: NDArray[np.uint8], indices: NDArray[np.int64], calibration: Calibration
    ) -> ViewGraph:
        """The view graph of (N, H, W, 3) images; pairs without a two-view geometry are left out.

        Raises:
            EstimationError: verification, which takes milliseconds, crashed twice.
        """
        keys = [(int(index), zlib.crc32(image)) for index, image in zip(indices, images, strict=True)]
        features = [self._extract(key, image) for key, image in zip(keys, images, strict=True)]
        pairs = candidate_pairs(len(images))
        self._verify_new(keys, features, pairs, calibration)
        found = [self._two_views.get(_pair_key(keys, pair, calibration)) for pair in pairs]
        self._features.shrink(REMEMBERED_CHUNKS * len(images))
        self._two_views.shrink(REMEMBERED_CHUNKS * len(images) * len(OFFSETS))
        kept = [(pair, view) for pair, view in zip(pairs, found, strict=True) if view and len(view.matches)]
        return ViewGraph(
            keypoints=tuple(each.points for each in features),
            pairs=np.array([pair for pair, _ in kept], dtype=np.int32).reshape(-1, 2),
            two_views=tuple(view for _, view in kept),
        )

    def _extract(self, key: ImageKey, image: NDArray[np.uint8]) -> Features:
        features = self._features.get(key)
        if features is None:
            features = extract_features(image)
            self._features.put(key, features)
        return features

    def _verify_new(
        self,
        keys: list[ImageKey],
        features: list[Features],
        pairs: NDArray[np.int32],
        calibration: Calibration,
    ) -> None:
        """Match and verify the pairs that are not remembered, spread over the workers."""
        new = [pair for pair in pairs if self._two_views.get(_pair_key(keys, pair, calibration)) is None]
        shares = [share for share in (new[start::WORKERS] for start in range(WORKERS)) if share]
        requests = [_request(features, share, calibration, self._seed) for share in shares]
        for share, verified in zip(shares, self._ask(requests), strict=True):
            for pair, view in zip(share, verified.two_views, strict=True):
                self._two_views.put(_pair_key(keys, pair, calibration), view)

    def _ask(self, requests: list[Message]) -> list[ViewGraph]:
        graphs = []
        for request, reply in zip(requests, self._pool.ask(requests), strict=True):
            if "failed" in reply.fields:
                (reply,) = self._pool.ask([request])
            if "failed" in reply.fields:
                raise EstimationError(
                    "two-view verification failed twice",
                    got=reply.fields["failed"],
                    hint="Run with --log-level debug to see what the native code says.",
                )
            graphs.append(jobs.graph_from_arrays(reply.arrays))
        return graphs


def _request(
    features: list[Features], pairs: list[NDArray[np.int32]], calibration: Calibration, seed: int
) -> Message:
    candidates = [match_features(features[first], features[second]) for first, second in pairs]
    graph = ViewGraph(
        keypoints=tuple(each.points for each in features),
        pairs=np.array(pairs, dtype=np.int32).reshape(-1, 2),
        two_views=tuple(_unverified(matches) for matches in candidates),
    )
    return jobs.verify_request(
        graph, calibration.intrinsics, calibration.size, known=calibration.known, seed=seed
    )


def _unverified(matches: NDArray[np.int32]) -> TwoView:
    unknown = np.full((3, 3), np.nan)
    return TwoView(matches=matches, kind=0, fundamental=unknown, essential=unknown, homography=unknown)


def _pair_key(keys: list[ImageKey], pair: NDArray[np.int32], calibration: Calibration) -> PairKey:
    first, second = pair
    return keys[first], keys[second], calibration.intrinsics[pair].tobytes() + bytes([calibration.known])
