"""depth_vis/: pictures of depth beside the image that it belongs to, for looking at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RANGE_PERCENTILES = (2.0, 98.0)


def save_picture(
    path: Path, image: NDArray[np.uint8], depth: NDArray[np.float32], sky: NDArray[np.bool_] | None
) -> None:
    """Write a PNG, twice as wide as the image: the image (H, W, 3) RGB, then its depth in colours."""
    import cv2

    picture = np.concatenate([image, coloured_depth(depth, sky)], axis=1)
    _, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    path.write_bytes(png.tobytes())


def coloured_depth(depth: NDArray[np.float32], sky: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of depth (H, W) in the colours of Turbo: near is red, far is blue.

    Colours are spread over inverse depth, of which equal steps are equally visible, between its percentiles 2
    and 98. Sky (H, W) is black, and so is depth that is not positive or not finite.
    """
    known = np.isfinite(depth) & (depth > 0)
    if sky is not None:
        known &= ~sky
    if not known.any():
        return np.zeros((*depth.shape, 3), dtype=np.uint8)
    nearness = 1 / np.where(known, depth, np.float32(1)).astype(np.float64)
    colours = turbo(nearness, *np.percentile(nearness[known], RANGE_PERCENTILES))
    colours[~known] = 0
    return colours


def turbo(nearness: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """(..., 3) RGB of inverse depth (...): dark blue up to `low`, dark red from `high` on."""
    import cv2

    share = (nearness - low) / max(high - low, 1e-9 * high)
    levels = np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    return table[levels]
