"""Pictures of depth maps, and of several pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.synthetic.textures import Image

_UNKNOWN = 40
_GAP_PX = 8


def depth_strip(images: Sequence[Image], depths: Sequence[NDArray[Any]], *, width: int) -> Image:
    """Images over their depth, in pairs from top to bottom: (H', width, 3) uint8 RGB.

    Depth is coloured by its inverse, near is red, far is blue, with one range for all maps; pixels without
    depth are dark grey.

    Args:
        images: (H, W, 3) uint8 RGB.
        depths: (h, w) z-depth, 0 = unknown.
        width: of the strip in pixels.
    """
    inverse = [np.divide(1, depth, where=depth > 0, out=np.zeros(depth.shape)) for depth in depths]
    known = np.concatenate([values[values > 0] for values in inverse])
    low, high = np.percentile(known, [2, 98]) if len(known) else (0.0, 1.0)
    tile_width = (width - _GAP_PX) // 2
    rows = []
    for image, values in zip(images, inverse, strict=True):
        size = (tile_width, round(tile_width * image.shape[0] / image.shape[1]))
        photo = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        colours = cv2.resize(_turbo(values, float(low), float(high)), size, interpolation=cv2.INTER_NEAREST)
        rows.append(np.hstack([photo, _white(size[1], width - 2 * tile_width), colours]))
    return stacked(rows)


def stacked(pictures: Sequence[Image]) -> Image:
    """Pictures of one width from top to bottom, white between them."""
    gap = _white(_GAP_PX, pictures[0].shape[1])
    return np.vstack([part for picture in pictures for part in (picture, gap)][:-1])


def beside(left: Image, right: Image) -> Image:
    """Two pictures side by side on white, centred vertically."""
    height = max(left.shape[0], right.shape[0])
    return np.hstack([_centred(left, height), _white(height, 2 * _GAP_PX), _centred(right, height)])


def _turbo(inverse_depth: NDArray[Any], low: float, high: float) -> Image:
    level = np.clip((inverse_depth - low) / max(high - low, 1e-12) * 255, 0, 255).astype(np.uint8)
    colours = np.ascontiguousarray(cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[..., ::-1])
    colours[inverse_depth <= 0] = _UNKNOWN
    return colours


def _centred(picture: Image, height: int) -> Image:
    above = (height - picture.shape[0]) // 2
    below = height - picture.shape[0] - above
    width = picture.shape[1]
    return np.vstack([_white(above, width), picture, _white(below, width)])


def _white(height: int, width: int) -> Image:
    return np.full((height, width, 3), 255, np.uint8)
