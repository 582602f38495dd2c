"""Pinhole cameras. The centre of the top-left pixel is (0.5, 0.5), so cx = width / 2 is the exact middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """Pinhole intrinsics with the image size that they belong to."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @classmethod
    def from_matrix(cls, matrix: NDArray[Any], width: int, height: int) -> Camera:
        """Camera of a (3, 3) matrix in pixels of a width x height image."""
        return cls(
            fx=float(matrix[0, 0]),
            fy=float(matrix[1, 1]),
            cx=float(matrix[0, 2]),
            cy=float(matrix[1, 2]),
            width=width,
            height=height,
        )

    def matrix(self) -> Array:
        """(3, 3) matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, width: int, height: int) -> Camera:
        """The same camera after its image was resized to width x height."""
        scaled = rescale_intrinsics(self.matrix(), (self.width, self.height), (width, height))
        return Camera.from_matrix(scaled, width, height)


def rescale_intrinsics(intrinsics: NDArray[Any], size: tuple[int, int], new_size: tuple[int, int]) -> Array:
    """Intrinsics (..., 3, 3) of images of `size`, after a resize to `new_size`; sizes are (width, height)."""
    factors = np.array([new_size[0] / size[0], new_size[1] / size[1], 1.0])
    return np.asarray(intrinsics, dtype=np.float64) * factors[:, None]


def subsample_intrinsics(intrinsics: NDArray[Any], step: int) -> Array:
    """Intrinsics (..., 3, 3) of the image made of the pixels `step // 2 :: step` of every row and column.

    Pixel i of the small image is pixel step * i + step // 2 of the large one; nothing is averaged.
    """
    small = np.array(intrinsics, dtype=np.float64)
    small[..., :2, :] /= step
    # Centres: small i + 0.5 lies at large step * i + step // 2 + 0.5. The shift is zero for odd steps.
    small[..., :2, 2] += 0.5 - (step // 2 + 0.5) / step
    return small


def pixel_rays(intrinsics: NDArray[Any], height: int, width: int) -> Array:
    """(H, W, 3) rays with z = 1 through the pixel centres, in the camera frame, for (3, 3) intrinsics."""
    x = (np.arange(width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    rays = np.ones((height, width, 3))
    rays[..., 0] = x
    rays[..., 1] = y[:, None]
    return rays


def unproject(depth: NDArray[Any], intrinsics: NDArray[Any]) -> Array:
    """Points (H, W, 3) in the camera frame of a z-depth map (H, W) with (3, 3) intrinsics."""
    return pixel_rays(intrinsics, *depth.shape) * depth[..., None]
