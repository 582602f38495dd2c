"""Search for similar frames among all earlier ones, in bounded memory.

The descriptors stay where the caller has stored them. While there are few, all are compared exactly.
Beyond that the index holds a short code of each and reads the descriptors of the most promising frames alone.
When there are too many codes, every second frame is left out from then on: neighbours look alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.place.compression import CodeIndex

MOST_CODES = 32_768
"""So many frames are searched, at 256 bytes each: the time of a search does not grow with the video beyond
that. In an hour at 30 frames/s it is every fourth frame."""
EXACT_FRAMES = 2048
"""So many frames are compared exactly before codes are learnt: three minutes at 10 frames/s. Reading them all
takes 60 ms a call. On a path that leaves the training behind, 20 best were 86 % the same as by exact search,
and the counterpart the best of all in each of 92 searches."""
_TRAINING_VECTORS = 1024
_BLOCK = 64
"""Descriptors are encoded in blocks of a fixed place and shape, so that rounding is the same however they
come."""
_READ = 256
"""Descriptors that are read at a time."""
_RERANKED = 8
"""This many times the wanted number of frames is compared exactly once the index is compressed ..."""
_RERANKED_AT_LEAST = 128
"""... and at least so many. Of every fourth frame a fourth: there are fewer neighbours among them."""

ReadDescriptors = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Gives the (N, dim) descriptors of frames (N,) that were added, which increase."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SearchResult:
    """The most similar frames of every query, best first; equal ones by index."""

    indices: NDArray[np.int64]
    """(M, k) frame indices; -1 where there are fewer than k frames to search."""
    similarities: NDArray[np.float32]
    """(M, k) inner products in [-1, 1]; NaN where the index is -1."""


class PlaceIndex:
    """An incremental index of unit descriptors. The result depends on what was added, not on how it was
    grouped into calls.

    Args:
        read: reads descriptors that were added; what it gives of a frame stays the same.
        exact_frames: how many frames are compared exactly.
        most_codes: how many codes are held.
    """

    def __init__(
        self,
        read: ReadDescriptors,
        *,
        exact_frames: int = EXACT_FRAMES,
        most_codes: int = MOST_CODES,
    ) -> None:
        self._read, self._exact_frames, self._most_codes = read, exact_frames, most_codes
        self._codes: CodeIndex | None = None
        self._frames = np.zeros(0, np.int64)
        self._stride = 1  # every how many frames are searched

    def __len__(self) -> int:
        """Number of frames that were added."""
        return len(self._frames)

    @property
    def stride(self) -> int:
        """Every how many frames are searched: 1 until there are too many."""
        return self._stride

    @property
    def is_compressed(self) -> bool:
        """Whether codes are searched instead of the descriptors themselves."""
        return self._codes is not None

    def add(self, frames: NDArray[Any]) -> None:
        """Append frames (N,), which must keep increasing; `read` knows them from now on.

        Raises:
            ValueError: indices do not increase.
        """
        every = np.concatenate([self._frames, np.asarray(frames, dtype=np.int64)])
        new = every[max(0, len(self) - 1) :]
        if (np.diff(new) <= 0).any():
            raise ValueError(f"frame indices must increase, got {new.tolist()}")
        self._frames = every
        if self._codes is None and len(self) > self._exact_frames:
            rows = _spread(self._exact_frames, min(_TRAINING_VECTORS, self._exact_frames))
            self._codes = CodeIndex(self._descriptors(rows))
        if self._codes is not None:
            self._encode(self._codes)

    def search(self, vectors: NDArray[np.float32], k: int, *, before: NDArray[Any]) -> SearchResult:
        """The k most similar frames of each of (M, dim) unit vectors.

        Args:
            vectors: queries.
            k: number of frames wanted.
            before: (M,) only frames with a smaller index than this are searched, for each query.
        """
        limits = np.searchsorted(self._frames, before)
        rows, similarities = self._compared(vectors, k, limits)
        similarities = np.where(rows < limits[:, None], similarities, -np.inf)
        best = np.lexsort((rows, -similarities), axis=-1)[:, :k]
        indices = np.full((len(vectors), k), -1, np.int64)
        found = np.full((len(vectors), k), np.nan, np.float32)
        chosen = np.take_along_axis(similarities, best, axis=1)
        is_found = np.isfinite(chosen)
        width = best.shape[1]
        indices[:, :width][is_found] = self._frames[np.take_along_axis(rows, best, axis=1)[is_found]]
        found[:, :width][is_found] = chosen[is_found]
        return SearchResult(indices=indices, similarities=found)

    def background(self, vectors: NDArray[np.float32], samples: int, *, before: int) -> NDArray[np.float32]:
        """(M, samples) similarities to frames spread evenly over those before `before`: what unrelated frames
        have in common. NaN where there are fewer frames than samples."""
        stop = int(np.searchsorted(self._frames, before))
        rows = _spread(stop, min(samples, stop))
        found = np.full((len(vectors), samples), np.nan, np.float32)
        if len(rows):
            found[:, : len(rows)] = vectors @ self._descriptors(rows).T
        return found

    def _encode(self, codes: CodeIndex) -> None:
        """Take the codes of all rows that have none yet."""
        while -(-len(self) // self._stride) > self._most_codes:
            codes.thin_out()
            self._stride *= 2
        rows = np.arange(len(codes), -(-len(self) // self._stride)) * self._stride
        for own in np.split(rows, np.flatnonzero(np.diff(rows // _BLOCK)) + 1):
            if len(own):
                vectors = self._descriptors(own)
                block = np.zeros((_BLOCK, vectors.shape[1]), np.float32)
                block[own % _BLOCK] = vectors
                codes.add(codes.encode(block)[own % _BLOCK])

    def _compared(
        self, vectors: NDArray[np.float32], k: int, limits: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(M, W) rows worth a look, and the exact similarities of the queries to them."""
        stop = int(limits.max(initial=0))
        if self._codes is None:
            return self._all_rows(vectors, stop)
        entries = -(-stop // self._stride)
        wanted = min(entries, max(k, max(_RERANKED_AT_LEAST, _RERANKED * k) // self._stride))
        rows = np.arange(entries) * self._stride
        approximate = self._codes.similarities(vectors, entries)
        approximate[rows >= limits[:, None]] = -np.inf
        if wanted < entries:
            rows = rows[np.argpartition(-approximate, wanted, axis=1)[:, :wanted]]
        else:
            rows = np.broadcast_to(rows, approximate.shape)
        return rows, self._exact(vectors, rows)

    def _all_rows(
        self, vectors: NDArray[np.float32], stop: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(M, stop) all rows below `stop`, and their similarities."""
        similarities = np.empty((len(vectors), stop), np.float32)
        for start in range(0, stop if len(vectors) else 0, _READ):
            block = np.arange(start, min(stop, start + _READ))
            similarities[:, block] = vectors @ self._descriptors(block).T
        return np.broadcast_to(np.arange(stop), similarities.shape), similarities

    def _exact(self, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(M, W) similarities of every query to its own rows (M, W); a row is read once for all queries."""
        union = np.unique(rows)
        found = np.empty((len(vectors), len(union)), np.float32)
        for start in range(0, len(union), _READ):
            found[:, start : start + _READ] = vectors @ self._descriptors(union[start : start + _READ]).T
        return np.take_along_axis(found, np.searchsorted(union, rows), axis=1)

    def _descriptors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._read(self._frames[rows])


def _spread(stop: int, count: int) -> NDArray[np.int64]:
    """`count` <= `stop` different numbers spread evenly over 0 .. stop - 1."""
    return (np.arange(count) * stop // max(count, 1)).astype(np.int64)
