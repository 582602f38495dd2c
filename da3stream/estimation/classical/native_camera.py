"""Cameras for pycolmap. Imported by worker processes only."""

from __future__ import annotations

import numpy as np
import pycolmap
from numpy.typing import NDArray


def pinhole(matrix: NDArray[np.float64], size: tuple[int, int], *, focal_known: bool) -> pycolmap.Camera:
    """Camera of (3, 3) intrinsics and (width, height); with an unknown focal fx = fy is one free number."""
    if focal_known:
        model, params = "PINHOLE", [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]
    else:
        model, params = "SIMPLE_PINHOLE", [matrix[0, 0], matrix[0, 2], matrix[1, 2]]
    camera = pycolmap.Camera(model=model, width=size[0], height=size[1], params=params)
    camera.has_prior_focal_length = focal_known
    return camera
