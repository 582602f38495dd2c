"""Numbers as text that reads back as the same float64."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def number_row(values: Iterable[float]) -> bytes:
    """One line: the shortest decimals that read back exactly, single spaces, no space at the end.

    Raises:
        ValueError: a number is not finite; no reader would make sense of it.
    """
    return " ".join(repr(_finite(value)) for value in values).encode() + b"\n"


def plain_decimal(value: float) -> str:
    """The shortest decimal that reads back exactly, without an exponent (`1000000.0`, `0.00001`)."""
    return np.format_float_positional(_finite(value), unique=True, trim="0")


def _finite(value: float) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"{number} cannot be written, expected a finite number")
    return number
