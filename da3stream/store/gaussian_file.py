"""Gaussians of the frames that a chunk owns: safetensors, half precision in all but their centres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from da3stream.errors import RunCorruptError
from da3stream.scene import FrameGaussians, Gaussians


def encode_gaussians(gaussians: FrameGaussians, skip: int) -> bytes:
    """Bytes of the Gaussians of all frames but the first `skip` (the context frames)."""
    own = gaussians.after(skip)
    compact = own.gaussians.compact()
    tensors: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(getattr(compact, name)) for name in Gaussians.__slots__
    }
    return save({**tensors, "counts": np.ascontiguousarray(own.counts, dtype=np.int64)})


def decode_gaussians(content: bytes) -> FrameGaussians:
    """The Gaussians. RunCorruptError if the bytes hold none."""
    try:
        tensors = load(content)
        counts = tensors.pop("counts")
        return FrameGaussians(counts=counts, gaussians=Gaussians(**tensors))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunCorruptError(f"stored Gaussians cannot be read: {error}") from error
