"""Colours of frames: by time, or by the submap that owns them."""

from __future__ import annotations

import colorsys
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


def frame_colours(state: MapState, colouring: Colouring) -> NDArray[np.uint8]:
    """(N, 3) RGB of all frames.

    Time runs through Turbo's colours from blue to red. Submaps get hues at steps of the golden ratio, so that
    those that follow each other look different.
    """
    if colouring is Colouring.TIME:
        # The darkest ends of the colours look black on thin lines.
        return turbo(np.linspace(0.08, 0.92, len(state)), 0.0, 1.0)
    hues = {index: (index * _GOLDEN_RATIO) % 1.0 for index in np.unique(state.submap).tolist()}
    colour_of = {index: colorsys.hsv_to_rgb(hue, 0.85, 0.85) for index, hue in hues.items()}
    shades = np.array([colour_of[index] for index in state.submap.tolist()]).reshape(-1, 3)
    return np.rint(255 * shades).astype(np.uint8)
