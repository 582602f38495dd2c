"""Pseudo-random weights that depend on names and shapes alone: for tests and timings, not for geometry.

Every tensor is drawn from a generator that is seeded with the CRC-32 of its name in a published checkpoint,
and scaled so that activations stay in a plausible range. Made anew anywhere, they are the same.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from da3stream.errors import ConfigError

SEEDED = "seeded:"
MODEL_PREFIX = "model."
_SPECIAL: tuple[tuple[str, tuple[float, float]], ...] = (
    (r"\.gamma$", (0.2, 0.02)),  # LayerScale
    (r"\bpos_embed$", (0.0, 0.5)),
    (r"\b(cls_token|camera_token|mask_token)$", (0.0, 0.7)),
    (r"\bdust_bin$", (1.0, 0.1)),
    (r"\.(q_norm|k_norm)\.weight$", (1.5, 0.15)),
    (r"\.fc_fov\.0\.bias$", (0.9, 0.02)),  # a field of view of about 0.9 rad
)
"""Mean and standard deviation of tensors that are no plain weights."""
_GAIN: tuple[tuple[str, float], ...] = (
    (r"\.qkv\.weight$", 1.5),  # attention that is not nearly uniform
    (r"\.fc_fov\.0\.weight$", 0.1),
    (r"\.fc_t\.weight$", 1.5),
    (r"\.fc_qvec\.weight$", 0.6),
    (r"\.scratch\.output_conv2\.2\.weight$", 0.6),  # depth is the exponential of what comes out
    (r"\.sky_output_conv2\.2\.weight$", 1.5),
    (r"\.output_conv2_aux\.\d\.5\.weight$", 0.6),
)
"""Factor on 1 / sqrt(fan-in), which weights of two and more dimensions otherwise have."""
_BIAS_MEAN: tuple[tuple[str, tuple[float, ...]], ...] = (
    (r"\.fc_qvec\.bias$", (0.0, 0.0, 0.0, 1.0)),  # a quaternion x y z w near the identity
    (r"\.output_conv2_aux\.\d\.5\.bias$", (0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)),  # rays along z
)
_TRANSPOSED = r"\.resize_layers\.[01]\.weight$"
_GAUSSIAN_OUTPUT = r"\bgs_head\.scratch\.output_conv2\.2\.weight$"
_GAUSSIAN_DEPTH_OFFSET = 36


class SeededTensors:
    """Stands in for the tensors of a checkpoint: `read` draws what is asked for."""

    def __init__(self, shapes: Mapping[str, Sequence[int]], seed: int, *, prefix: str = MODEL_PREFIX) -> None:
        """`shapes` by name as in the network; `prefix` is what the checkpoints have in front of each name."""
        self._shapes, self._seed, self._prefix = shapes, seed, prefix

    def read(self, name: str) -> Tensor:
        """The float32 tensor of this name in the network."""
        return torch.from_numpy(seeded_array(self._prefix + name, self._shapes[name], self._seed))


def seed_of(weights: str | Path | None) -> int | None:
    """N of `seeded:N`; None for real weights."""
    if weights is None or not str(weights).startswith(SEEDED):
        return None
    number = str(weights).removeprefix(SEEDED)
    if not number.isdecimal():
        raise ConfigError(
            "pseudo-random weights need a seed", got=str(weights), expected="seeded:0, for example"
        )
    return int(number)


def seeded_array(key: str, shape: Sequence[int], seed: int = 0) -> NDArray[np.float32]:
    """The float32 tensor of a checkpoint's key, prefix included, and shape. Seed 0 is the fixtures' one."""
    crc = zlib.crc32(key.encode())
    generator = np.random.Generator(np.random.PCG64([crc, seed] if seed else crc))
    normals = generator.standard_normal(tuple(shape), dtype=np.float32)
    return np.asarray(_scaled(key, tuple(shape), normals), dtype=np.float32).reshape(tuple(shape))


def _scaled(key: str, shape: tuple[int, ...], normals: NDArray[np.float32]) -> NDArray[np.float32]:
    for pattern, (mean, deviation) in _SPECIAL:
        if re.search(pattern, key):
            return mean + deviation * normals
    for pattern, means in _BIAS_MEAN:
        if re.search(pattern, key) and shape == (len(means),):
            return np.asarray(means, np.float32) + 0.05 * normals
    if len(shape) >= 2:
        return _matrix(key, shape, normals)
    if key.endswith("weight"):  # of a normalisation
        return 1.0 + 0.1 * normals
    return 0.02 * normals


def _matrix(key: str, shape: tuple[int, ...], normals: NDArray[np.float32]) -> NDArray[np.float32]:
    gain = next((gain for pattern, gain in _GAIN if re.search(pattern, key)), 1.0)
    fan_in = shape[0] if re.search(_TRANSPOSED, key) else prod(shape[1:])
    weights = normals * np.float32(gain / sqrt(fan_in))
    if re.search(_GAUSSIAN_OUTPUT, key):
        weights[_GAUSSIAN_DEPTH_OFFSET] *= 0.05  # depth plus offset stays positive
    if re.search(r"\.sky_output_conv2\.2\.weight$", key):
        weights = weights - weights.mean(axis=1, keepdims=True)
    return weights
