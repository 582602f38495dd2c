"""From the images of a chunk to its view graph; features and verified pairs are remembered between chunks."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
"""Results are kept for this many chunks of the longest so far: enough for the overlap with the next."""


Mask = NDArray[np.bool_] | None
"""(H, W) True where an image is to be ignored."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibration:
    """Intrinsics of N images of one size: those given, or a first guess."""

    intrinsics: NDArray[np.float64]
    """(N, 3, 3) in pixels of the images."""
    size: tuple[int, int]
    """(width, height) in pixels."""
    known: bool
    """False where the focal is a guess."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Matches:
    """The matches of one chunk."""

    graph: ViewGraph
    warnings: tuple[str, ...]
    """Pairs that were lost to a crash of native code."""


class ChunkMatcher:
    """Extracts, matches and verifies. The memory of earlier chunks saves time and changes no result."""

    def __init__(self, pool: WorkerPool, *, seed: int) -> None:
        self._pool, self._seed = pool, seed
        self._features: Memo[ImageKey, Features] = Memo()
        self._two_views: Memo[PairKey, TwoView] = Memo()
        self._longest = 0

    def match(
        self,
        images: NDArray[np.uint8],
        indices: NDArray[np.int64],
        calibration: Calibration,
        ignored: NDArray[np.bool_] | None = None,
    ) -> Matches:
        """The view graph of (N, H, W, 3) images; pairs without a two-view geometry are left out.

        Features where (N, H, W) `ignored` is True are left out, too.
        """
        masks = [None] * len(images) if ignored is None else list(ignored)
        keys = [_image_key(*each) for each in zip(indices, images, masks, strict=True)]
        features = [self._extract(*each) for each in zip(keys, images, masks, strict=True)]
        pairs = candidate_pairs(indices)
        warnings = self._verify_new(keys, features, pairs, calibration)
        found = [self._two_views.get(_pair_key(keys, pair, calibration)) for pair in pairs]
        self._longest = max(self._longest, len(images))
        self._features.shrink(REMEMBERED_CHUNKS * self._longest)
        self._two_views.shrink(REMEMBERED_CHUNKS * self._longest * len(OFFSETS))
        kept = [(pair, view) for pair, view in zip(pairs, found, strict=True) if view and len(view.matches)]
        graph = ViewGraph(
            keypoints=tuple(each.points for each in features),
            pairs=np.array([pair for pair, _ in kept], dtype=np.int32).reshape(-1, 2),
            two_views=tuple(view for _, view in kept),
        )
        return Matches(graph=graph, warnings=warnings)

    def _extract(self, key: ImageKey, image: NDArray[np.uint8], mask: Mask) -> Features:
        features = self._features.get(key)
        if features is None:
            features = _unmasked(extract_features(image), mask)
            self._features.put(key, features)
        return features

    def _verify_new(
        self,
        keys: list[ImageKey],
        features: list[Features],
        pairs: NDArray[np.int32],
        calibration: Calibration,
    ) -> tuple[str, ...]:
        """Match and verify the pairs that are not remembered, spread over the workers; return warnings.

        Where a share of the pairs is lost to a crash, each of them is tried alone.
        """
        new = [pair for pair in pairs if self._two_views.get(_pair_key(keys, pair, calibration)) is None]
        shares = [share for share in (new[start::WORKERS] for start in range(WORKERS)) if share]
        lost = self._verify_shares(keys, features, shares, calibration)
        alone = [[pair] for share in lost for pair in share]
        return tuple(
            f"frames {keys[first][0]} and {keys[second][0]} are not matched: their verification crashed"
            for ((first, second),) in self._verify_shares(keys, features, alone, calibration)
        )

    def _verify_shares(
        self,
        keys: list[ImageKey],
        features: list[Features],
        shares: list[list[NDArray[np.int32]]],
        calibration: Calibration,
    ) -> list[list[NDArray[np.int32]]]:
        """Remember the results of shares of pairs, one job each; return the shares whose job failed."""
        requests = [_request(features, share, calibration, self._seed) for share in shares]
        failed = []
        for share, reply in zip(shares, self._pool.ask(requests), strict=True):
            if "failed" in reply.fields:
                failed.append(share)
                continue
            for pair, view in zip(share, jobs.graph_from_arrays(reply.arrays).two_views, strict=True):
                self._two_views.put(_pair_key(keys, pair, calibration), view)
        return failed


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


def _image_key(index: int, image: NDArray[np.uint8], mask: Mask) -> ImageKey:
    crc = zlib.crc32(np.ascontiguousarray(image).data)
    return int(index), crc if mask is None else zlib.crc32(np.ascontiguousarray(mask).data, crc)


def _unmasked(features: Features, mask: Mask) -> Features:
    """The features that do not lie where an image is to be ignored."""
    if mask is None:
        return features
    x, y = np.floor(features.points).astype(np.intp).T
    kept = ~mask[np.clip(y, 0, mask.shape[0] - 1), np.clip(x, 0, mask.shape[1] - 1)]
    return Features(points=features.points[kept], descriptors=features.descriptors[kept])
