"""Which frames the viewer shows points and frusta of, and in which order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_KEYFRAMES = 400
"""Nodes that a browser still draws fluently."""
_BY_TIME = 0.25
"""Share of the keyframes that are spread by time: where the camera turns on the spot, it travels nowhere."""


def choose_keyframes(centres: NDArray[np.floating], most: int = MAX_KEYFRAMES) -> NDArray[np.int64]:
    """Rows of at most `most` frames that are spread over the path, by distance and a little by time.

    Args:
        centres: (N, 3) camera centres in the order of time.
        most: >= 1.

    Returns:
        (K,) ascending; all of them if there are no more than `most`; the first and the last are among them.
    """
    if len(centres) <= most:
        return np.arange(len(centres))
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    distance = np.concatenate([[0.0], np.cumsum(steps)])
    time = np.linspace(0.0, 1.0, len(centres))
    progress = time if distance[-1] == 0 else (1 - _BY_TIME) * distance / distance[-1] + _BY_TIME * time
    return np.unique(
        np.searchsorted(progress, np.linspace(0.0, progress[-1], most)).clip(0, len(centres) - 1)
    )


def growing_keyframes(frames: int, most: int = MAX_KEYFRAMES) -> list[int]:
    """Every frame whose index a power of two divides, the smallest that leaves at most `most` of `frames`.

    While frames come, those that are there stay, or every second one goes."""
    stride = 1
    while -(-frames // stride) > most:
        stride *= 2
    return list(range(0, frames, stride))


def coarse_to_fine(count: int) -> list[int]:
    """0 .. count - 1 in bit-reversed order (van der Corput's sequence): every prefix is spread evenly."""
    bits = max(1, (count - 1).bit_length())
    reversed_numbers = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits))
    return [number for number in reversed_numbers if number < count]
