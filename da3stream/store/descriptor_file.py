"""Place descriptors of the frames that a chunk owns, and their vocabulary: safetensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from da3stream.errors import RunCorruptError


def encode_descriptors(descriptors: NDArray[np.float32]) -> bytes:
    """Bytes of (M, dim) descriptors, float16."""
    return save({"descriptors": np.ascontiguousarray(descriptors, dtype=np.float16)})


def decode_descriptors(content: bytes) -> NDArray[np.float32]:
    """(M, dim) descriptors. RunCorruptError if the bytes hold none."""
    return _decode(content, "descriptors")


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
