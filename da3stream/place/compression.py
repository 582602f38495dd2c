"""Compressed descriptors: product-quantised principal components.

Jegou et al., "Product quantization for nearest neighbor search", PAMI 2011: a vector is cut into parts, each
part is replaced by the number of its nearest centre, and inner products with a query are sums of entries of
tables.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

CODE_BYTES = 64
_PRINCIPAL_COMPONENTS = 256


class FlatIndex:
    """Descriptors in float16, searched exactly."""

    def __init__(self, dim: int) -> None:
        self._index: Any = faiss.IndexScalarQuantizer(
            dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append (N, dim) vectors."""
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))

    def nearest(self, vector: NDArray[np.float32], count: int, stop: int) -> NDArray[np.int64]:
        """At most `count` entries below `stop` with the largest inner product with (dim,)."""
        parameters: Any = faiss.SearchParameters  # some versions of its stubs lack the keyword
        allowed = parameters(sel=faiss.IDSelectorRange(0, stop))
        found = self._index.search(vector[None], count, params=allowed)[1][0]
        return found[found >= 0].astype(np.int64)


class CodeIndex:
    """Codes of at most `CODE_BYTES` bytes, searched approximately.

    Args:
        training: (N, dim) vectors that axes and centres are learnt from.
    """

    def __init__(self, training: NDArray[np.float32]) -> None:
        axes = min(_PRINCIPAL_COMPONENTS, *training.shape)
        parts = max(part for part in range(1, CODE_BYTES + 1) if axes % part == 0)
        bits = min(8, max(1, len(training).bit_length() - 1))
        # The axes are those of the uncentred second moments: centring would change inner products.
        self._axes = _principal_axes(training, axes)
        self._quantiser: Any = faiss.ProductQuantizer(axes, parts, bits)
        self._quantiser.cp.min_points_per_centroid = 1
        self._quantiser.train(training @ self._axes.T)
        centres = faiss.vector_to_array(self._quantiser.centroids)
        self._centres: NDArray[np.float32] = centres.reshape(parts, self._quantiser.ksub, -1)
        self._codes = np.zeros((parts, 1024), np.uint8)  # a row per part, so that a part is read in one go
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append (N, dim) vectors."""
        reduced = np.ascontiguousarray(vectors @ self._axes.T, dtype=np.float32)
        parts = reduced.reshape(len(reduced), len(self._centres), -1)
        while self._count + len(vectors) > self._codes.shape[1]:
            self._codes = np.pad(self._codes, ((0, 0), (0, 256 + self._codes.shape[1] // 4)))
        # One byte a part, also where the centres are so few that FAISS would pack several into a byte.
        for part, centres in enumerate(self._centres):
            distances = np.square(centres).sum(axis=1) - 2 * parts[:, part] @ centres.T
            self._codes[part, self._count : self._count + len(vectors)] = distances.argmin(axis=1)
        self._count += len(vectors)

    def nearest(self, vector: NDArray[np.float32], count: int, stop: int) -> NDArray[np.int64]:
        """At most `count` entries below `stop` with the largest approximate inner product with (dim,)."""
        parts = (self._axes @ vector).reshape(len(self._centres), -1)
        tables = np.einsum("pcd,pd->pc", self._centres, parts)
        products = np.zeros(stop, np.float32)
        for table, codes in zip(tables, self._codes[:, :stop], strict=True):
            products += table[codes]
        return np.argsort(-products, kind="stable")[:count].astype(np.int64)

    def thin_out(self) -> None:
        """Forget every second entry."""
        kept = self._codes[:, : self._count : 2].copy()
        self._codes, self._count = kept, kept.shape[1]


def _principal_axes(vectors: NDArray[np.float32], axes: int) -> NDArray[np.float32]:
    """(axes, dim) orthonormal axes that hold most of the length of (N, dim) vectors."""
    if len(vectors) >= vectors.shape[1]:
        moments = (vectors.T @ vectors).astype(np.float64)
        return np.ascontiguousarray(np.linalg.eigh(moments)[1][:, ::-1][:, :axes].T, dtype=np.float32)
    # Fewer vectors than dimensions: the small matrix of their inner products has the same axes.
    values, weights = np.linalg.eigh((vectors @ vectors.T).astype(np.float64))
    values, weights = values[::-1][:axes], weights[:, ::-1][:, :axes]
    scaled = weights / np.sqrt(np.maximum(values, 1e-9 * values[0]))
    return np.ascontiguousarray(scaled.T.astype(np.float32) @ vectors)
