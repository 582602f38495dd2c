"""Place descriptors of the frames that a chunk owns: float16 in safetensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from da3stream.errors import RunCorruptError


def encode_descriptors(descriptors: NDArray[np.float32]) -> bytes:
    """Bytes of (M, dim) descriptors."""
    return save({"descriptors": np.ascontiguousarray(descriptors, dtype=np.float16)})


def decode_descriptors(content: bytes) -> NDArray[np.float32]:
    """(M, dim) descriptors. RunCorruptError if the bytes hold none."""
    try:
        return load(content)["descriptors"].astype(np.float32)
    except (SafetensorError, KeyError) as error:
        raise RunCorruptError(f"stored place descriptors cannot be read: {error}") from error
