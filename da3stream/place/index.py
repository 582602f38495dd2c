"""Search for similar frames among all earlier ones, in bounded memory.

Descriptors lie in a file. Up to a limit the index holds them all in float16 and searches exactly; beyond it,
it holds product-quantised codes, a few dozen bytes a frame, and ranks the best of them again by the vectors
of the file. When even the codes reach the limit, every second frame is left out from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.place.compression import CODE_BYTES, CodeIndex, FlatIndex

MEMORY_BYTES = 200_000_000
_TRAINING_VECTORS = 2048
_BLOCK = 64
_RERANKED = 8
"""This many times the wanted number of frames is compared exactly once the index is compressed ..."""
_RERANKED_AT_LEAST = 128
"""... and at least so many."""
_FLAT_SHARE, _CODES_SHARE = 0.5, 0.4
"""Shares of the memory: for the exact vectors; for the codes. The rest is work space. Training takes place
when the exact vectors have been given back."""


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
        path: the file of descriptors, (frames, dim) float16 without a header. The caller owns it; what it
            held is replaced. A resumed run adds its stored descriptors again.
        dim: length of a descriptor.
        memory_bytes: what the index may take in memory, work space included.
    """

    def __init__(self, path: Path, dim: int, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.path, self.dim = path, dim
        self._flat_frames = max(1, int(_FLAT_SHARE * memory_bytes) // (2 * dim + 8))
        self._code_frames = max(2, int(_CODES_SHARE * memory_bytes) // (2 * CODE_BYTES + 16))
        self._training = max(1, min(_TRAINING_VECTORS, int(_FLAT_SHARE * memory_bytes) // (8 * dim)))
        self._index: FlatIndex | CodeIndex = FlatIndex(dim)
        self._frames = np.zeros(0, np.int64)  # of every row of the file
        self._stride = 1  # every how many rows of the file are searched
        path.write_bytes(b"")

    def __len__(self) -> int:
        """Number of frames that were added."""
        return len(self._frames)

    @property
    def stride(self) -> int:
        """Every how many frames are searched: 1 until the memory is full of codes."""
        return self._stride

    @property
    def is_compressed(self) -> bool:
        """Whether codes are searched instead of the descriptors themselves."""
        return isinstance(self._index, CodeIndex)

    def add(self, indices: NDArray[Any], vectors: NDArray[np.float32]) -> None:
        """Append the unit descriptors (N, dim) of frames `indices` (N,), which must keep increasing.

        Raises:
            ValueError: shapes do not agree, or indices do not increase.
        """
        self._check(vectors, len(indices))
        frames = np.concatenate([self._frames[-1:], np.asarray(indices, dtype=np.int64)])
        if (np.diff(frames) <= 0).any():
            raise ValueError(f"frame indices must increase, got {frames.tolist()}")
        self._append(np.asarray(indices, dtype=np.int64), vectors)

    def search(self, vectors: NDArray[np.float32], k: int, *, before: NDArray[Any]) -> SearchResult:
        """The k most similar frames of each of (M, dim) unit vectors.

        Args:
            vectors: queries.
            k: number of frames wanted.
            before: (M,) only frames with a smaller index than this are searched, for each query.
        """
        self._check(vectors, len(before))
        indices = np.full((len(vectors), k), -1, np.int64)
        similarities = np.full((len(vectors), k), np.nan, np.float32)
        for query, vector in enumerate(np.asarray(vectors, dtype=np.float32)):
            rows = self._nearest_rows(vector, k, self._rows_before(int(before[query])))
            exact = self._read(rows) @ vector
            order = np.lexsort((rows, -exact))[:k]
            indices[query, : len(order)] = self._frames[rows[order]]
            similarities[query, : len(order)] = exact[order]
        return SearchResult(indices=indices, similarities=similarities)

    def background(
        self, vectors: NDArray[np.float32], samples: int, *, before: NDArray[Any]
    ) -> NDArray[np.float32]:
        """(M, samples) similarities to frames spread evenly over those before `before` (M,): what unrelated
        frames have in common. NaN where there are fewer frames than samples."""
        self._check(vectors, len(before))
        found = np.full((len(vectors), samples), np.nan, np.float32)
        for query, vector in enumerate(np.asarray(vectors, dtype=np.float32)):
            stop = self._rows_before(int(before[query]))
            rows = _spread(stop, min(samples, stop))
            found[query, : len(rows)] = self._read(rows) @ vector
        return found

    def _check(self, vectors: NDArray[np.float32], count: int) -> None:
        if vectors.shape != (count, self.dim):
            raise ValueError(f"descriptors must be ({count}, {self.dim}), got {vectors.shape}")

    def _append(self, indices: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(vectors, dtype=np.float16).tobytes())
        first = len(self)
        self._frames = np.concatenate([self._frames, indices])
        for row in range(first, len(self)):
            self._append_row(row, vectors[row - first])

    def _append_row(self, row: int, vector: NDArray[np.float32]) -> None:
        if isinstance(self._index, FlatIndex) and row == self._flat_frames:
            self._index = self._compressed(row)
        while isinstance(self._index, CodeIndex) and len(self._index) >= self._code_frames:
            self._index.thin_out()
            self._stride *= 2
        if row % self._stride == 0:
            self._index.add(vector[None])

    def _compressed(self, rows: int) -> CodeIndex:
        """Codes of the first `rows` descriptors, learnt from some of them."""
        self._index = FlatIndex(self.dim)  # gives the memory of the exact vectors back before training
        codes = CodeIndex(self._read(_spread(rows, min(rows, self._training))))
        for start in range(0, rows, _BLOCK):
            codes.add(self._read(np.arange(start, min(rows, start + _BLOCK))))
        return codes

    def _rows_before(self, frame: int) -> int:
        return int(np.searchsorted(self._frames, frame))

    def _nearest_rows(self, vector: NDArray[np.float32], k: int, stop: int) -> NDArray[np.int64]:
        """Rows below `stop` of the frames worth an exact comparison."""
        entries = -(-stop // self._stride)
        wanted = min(entries, max(_RERANKED_AT_LEAST, _RERANKED * k) if self.is_compressed else k)
        if not wanted:
            return np.zeros(0, np.int64)
        return self._index.nearest(vector, wanted, entries) * self._stride

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(R, dim) descriptors of rows of the file; the mapping ends with the call, so that its pages do not
        count as ours."""
        if not len(rows):
            return np.zeros((0, self.dim), np.float32)
        mapped = np.memmap(self.path, dtype=np.float16, mode="r", shape=(len(self), self.dim))
        return np.asarray(mapped[rows], dtype=np.float32)


def _spread(stop: int, count: int) -> NDArray[np.int64]:
    """`count` <= `stop` different numbers spread evenly over 0 .. stop - 1."""
    return (np.arange(count) * stop // max(count, 1)).astype(np.int64)
