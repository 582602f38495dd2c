"""Compressed descriptors: principal components in a byte each.

Inner products of descriptors are nearly those of their principal components, and a byte says each of these
closely enough to choose what is worth an exact comparison. A product with many queries at a time is one
matrix product, which is what makes this faster than the tables of product quantisation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PRINCIPAL_COMPONENTS = 256
"""So many bytes a frame at most."""
_LARGEST_CODE = 127
_HEADROOM = 1.5
"""Codes reach this many times as far as the vectors they were learnt from; what is further is cut off."""
_ENTRIES = 4096
"""In one array: growing copies nothing, and one is turned into float32 at a time."""


class CodeIndex:
    """Codes of descriptors, searched approximately.

    Args:
        training: (N, dim) vectors that axes and their ranges are learnt from.
    """

    def __init__(self, training: NDArray[np.float32]) -> None:
        # The axes are those of the uncentred second moments: centring would change inner products.
        self._axes = _principal_axes(training, min(PRINCIPAL_COMPONENTS, *training.shape))
        reach = _HEADROOM * np.abs(training @ self._axes.T).max(axis=0)
        self._unit = (np.maximum(reach, 1e-9) / _LARGEST_CODE).astype(np.float32)
        self._arrays: list[NDArray[np.int8]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.int8]:
        """(N, components) codes of (N, dim) vectors."""
        codes = np.rint(vectors @ self._axes.T / self._unit)
        return np.clip(codes, -_LARGEST_CODE, _LARGEST_CODE).astype(np.int8)

    def add(self, codes: NDArray[np.int8]) -> None:
        """Append (N, components) codes."""
        while len(codes):
            at = self._count % _ENTRIES
            if at == 0:
                self._arrays.append(np.zeros((_ENTRIES, len(self._axes)), np.int8))
            taken = min(len(codes), _ENTRIES - at)
            self._arrays[-1][at : at + taken] = codes[:taken]
            self._count += taken
            codes = codes[taken:]

    def similarities(self, vectors: NDArray[np.float32], stop: int) -> NDArray[np.float32]:
        """(M, stop) approximate inner products of (M, dim) queries with the entries below `stop`."""
        queries = (vectors @ self._axes.T) * self._unit
        found = np.empty((len(vectors), stop), np.float32)
        for start in range(0, stop, _ENTRIES):
            entries = self._arrays[start // _ENTRIES][: stop - start]
            found[:, start : start + len(entries)] = queries @ entries.astype(np.float32).T
        return found

    def thin_out(self) -> None:
        """Forget every second entry."""
        arrays, count = self._arrays, self._count
        self._arrays, self._count = [], 0
        for number, entries in enumerate(arrays):  # an even number in each but the last
            self.add(entries[: count - number * _ENTRIES : 2])


def _principal_axes(vectors: NDArray[np.float32], axes: int) -> NDArray[np.float32]:
    """(axes, dim) orthonormal axes that hold most of the length of (N, dim) vectors."""
    if len(vectors) >= vectors.shape[1]:
        moments = (vectors.T @ vectors).astype(np.float64)
        return np.ascontiguousarray(np.linalg.eigh(moments)[1][:, ::-1][:, :axes].T, dtype=np.float32)
    # Fewer vectors than dimensions: the small matrix of their inner products has the same axes.
    values, weights = np.linalg.eigh((vectors @ vectors.T).astype(np.float64))
    values, weights = values[::-1][:axes], weights[:, ::-1][:, :axes]
    scaled: NDArray[Any] = weights / np.sqrt(np.maximum(values, 1e-9 * values[0]))
    return np.ascontiguousarray(scaled.T.astype(np.float32) @ vectors)
