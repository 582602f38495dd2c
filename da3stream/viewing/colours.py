"""Colours of frames: by time, or by the submap that owns them."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from da3stream.viewing.map_state import MapState
from da3stream.writers.depth_vis import turbo

_GOLDEN_RATIO = 0.618033988749895


class Colouring(Enum):
    """What the colour of a frame says."""

    TIME = "time"
    SUBMAP = "submap"


def frame_colours(
    state: MapState, colouring: Colouring, frames: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.uint8]:
    """(K, 3) RGB of some frames.

    Time runs through Turbo's colours from blue to red. Submaps get hues at steps of the golden ratio, so that
    those that follow each other look different.
    """
    if colouring is Colouring.TIME:
        # The darkest ends of the colours look black on thin lines.
        shares = np.asarray(frames, dtype=np.float64) / max(1, len(state) - 1)
        return turbo(0.08 + 0.84 * shares, 0.0, 1.0)
    hues = (state.submap[np.asarray(frames, dtype=np.int64)] * _GOLDEN_RATIO) % 1.0
    shades = np.array([colorsys.hsv_to_rgb(hue, 0.85, 0.85) for hue in hues.tolist()]).reshape(-1, 3)
    return np.rint(255 * shades).astype(np.uint8)
