"""Shape checks shared by the data types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_array(
    name: str, array: NDArray[Any], shape: tuple[int | None, ...], dtype: type | None = None
) -> None:
    """Raise ValueError unless `array` has `shape` (None: any length) and, if given, a dtype of this kind."""
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} must be a numpy array, got {type(array).__name__}")
    matches = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not matches:
        raise ValueError(
            f"{name} has shape {array.shape}, expected {tuple('*' if n is None else n for n in shape)}"
        )
    if dtype is not None and not np.issubdtype(array.dtype, dtype):
        raise ValueError(f"{name} has dtype {array.dtype}, expected {dtype.__name__}")


def describe_arrays(**arrays: NDArray[Any] | None) -> str:
    """`depth=(12, 94, 168) float32, ...` for the `repr` of a type that holds large arrays."""
    return ", ".join(
        f"{name}=None" if array is None else f"{name}={array.shape} {array.dtype}"
        for name, array in arrays.items()
    )
