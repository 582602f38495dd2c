"""The final trajectory as bytes: exact, in safetensors."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from da3stream.errors import RunCorruptError
from da3stream.scene import Trajectory


def encode_trajectory(trajectory: Trajectory) -> bytes:
    """Bytes of a trajectory: one tensor for each of its fields."""
    return save(
        {field.name: np.ascontiguousarray(getattr(trajectory, field.name)) for field in fields(trajectory)}
    )


def decode_trajectory(content: bytes) -> Trajectory:
    """The trajectory. RunCorruptError if the bytes hold none."""
    try:
        return Trajectory(**load(content))
    except (SafetensorError, TypeError, ValueError) as error:
        raise RunCorruptError(f"the stored trajectory cannot be read: {error}") from error
