"""Full-size depth of the frames that a chunk owns, for `--keep full`: float32 in safetensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from da3stream.errors import RunCorruptError
from da3stream.scene import Prediction


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FullDepth:
    """Depth maps as the estimator gave them."""

    depth: NDArray[np.float32]
    """(M, h, w) z-depth in the submap's unit."""
    confidence: NDArray[np.float32]
    """(M, h, w) >= 0."""


def encode_full_depth(prediction: Prediction, skip: int) -> bytes:
    """Bytes of all maps but the first `skip` (those of the context frames)."""
    return save(
        {
            "depth": np.ascontiguousarray(prediction.depth[skip:], dtype=np.float32),
            "confidence": np.ascontiguousarray(prediction.confidence[skip:], dtype=np.float32),
        }
    )


def decode_full_depth(content: bytes) -> FullDepth:
    """The maps. RunCorruptError if the bytes hold none."""
    try:
        tensors = load(content)
        return FullDepth(depth=tensors["depth"], confidence=tensors["confidence"])
    except (SafetensorError, KeyError) as error:
        raise RunCorruptError(f"stored full-size depth cannot be read: {error}") from error
