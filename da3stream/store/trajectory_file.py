"""The final trajectory as bytes: exact, in safetensors."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
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


def read_trajectory_field(path: Path, name: str) -> NDArray[Any]:
    """One field of a stored trajectory; the others are not read.

    Raises:
        RunCorruptError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            field: NDArray[Any] = file.get_tensor(name)
            return field
    except (SafetensorError, OSError) as error:
        raise RunCorruptError(f"the stored trajectory cannot be read: {error}") from error
