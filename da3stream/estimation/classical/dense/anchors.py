"""Triangulated points as sparse maps at the resolution of the depth maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.dense.maps import Estimate, SparseDepth

Float32 = NDArray[np.float32]


def anchor_maps(
    sparse: SparseDepth | None, frames: int, image_size: tuple[int, int], map_size: tuple[int, int]
) -> list[Float32]:
    """For each frame (h, w) the inverse depth of the nearest point in each pixel, 0 where there is none.

    Sizes are (width, height); points outside the image are left out.
    """
    maps = [np.zeros(map_size[::-1], dtype=np.float32) for _ in range(frames)]
    if sparse is None:
        return maps
    for image, positions, depths in zip(maps, sparse.positions_px, sparse.depths, strict=True):
        pixels = np.floor(positions * np.divide(map_size, image_size)).astype(np.intp)
        inside = ((pixels >= 0) & (pixels < map_size)).all(axis=1)
        np.maximum.at(image, (pixels[inside, 1], pixels[inside, 0]), 1 / depths[inside])
    return maps


def median_disagreement(
    anchors: Sequence[Float32], estimates: Sequence[Estimate], least: float
) -> float | None:
    """Median relative difference of inverse depth at the anchors where confidence is at least `least`."""
    differences = []
    for anchor, estimate in zip(anchors, estimates, strict=True):
        both = (anchor > 0) & (estimate.confidence >= least)
        differences.append(np.abs(estimate.inverse_depth[both] / anchor[both] - 1))
    together = np.concatenate(differences)
    return float(np.median(together)) if len(together) else None
