"""Place descriptors of the frames that a chunk owns, and their vocabulary: safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from da3stream.errors import RunCorruptError


def encode_descriptors(descriptors: NDArray[np.float32]) -> bytes:
    """Bytes of (M, dim) descriptors, float16."""
    return save({"descriptors": np.ascontiguousarray(descriptors, dtype=np.float16)})


def decode_descriptors(content: bytes) -> NDArray[np.float32]:
    """(M, dim) descriptors. RunCorruptError if the bytes hold none."""
    return _decode(content, "descriptors")


def read_descriptors(path: Path, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(R, dim) some rows of a stored file, without a look at its checksum.

    Raises:
        RunCorruptError: the file cannot be read or has fewer rows.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            stored = file.get_slice("descriptors")
            return np.asarray(stored[rows.min() : rows.max() + 1][rows - rows.min()], dtype=np.float32)
    except (SafetensorError, OSError, IndexError) as error:
        raise RunCorruptError(f"the stored place descriptors {path.name} cannot be read: {error}") from error


def encode_vocabulary(centres: NDArray[np.float32]) -> bytes:
    """Bytes of (words, D) cluster centres, exact."""
    return save({"centres": np.ascontiguousarray(centres, dtype=np.float32)})


def decode_vocabulary(content: bytes) -> NDArray[np.float32]:
    """(words, D) cluster centres. RunCorruptError if the bytes hold none."""
    return _decode(content, "centres")


def _decode(content: bytes, name: str) -> NDArray[np.float32]:
    try:
        return load(content)[name].astype(np.float32)
    except (SafetensorError, KeyError) as error:
        raise RunCorruptError(f"stored place {name} cannot be read: {error}") from error
