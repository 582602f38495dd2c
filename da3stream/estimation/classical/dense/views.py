"""Small grey images with their cameras, and the geometry of a pair of them.

With x the homogeneous pixel of a point in the reference view, w its inverse depth there, the point appears in
the source view at the homogeneous pixel

    x_source ~ A x + w b,     A = K_source R K_reference^-1,     b = K_source t

(R, t: source_from_reference; Hartley and Zisserman, Multiple View Geometry, section 13.3). For constant w
this is the homography of a plane parallel to the reference image.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.camera import rescale_intrinsics
from da3stream.geometry.rigid3 import invert, to_4x4

LONG_SIDE_PX = 336

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairGeometry:
    """How pixels of a reference view move to a source view; see the module's docstring."""

    infinite_homography: Float64
    """(3, 3) A, source pixels from reference pixels, for points at infinity."""
    epipole: Float64
    """(3,) b, the homogeneous source pixel of the reference camera's centre; zero without a baseline."""

    def plane_homography(self, inverse_depth: float) -> Float64:
        """(3, 3) source from reference pixels for the points at one inverse depth."""
        homography = self.infinite_homography.copy()
        homography[:, 2] += inverse_depth * self.epipole
        return homography


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Views:
    """N grey images of one size with their cameras."""

    grey: NDArray[np.uint8]
    """(N, h, w)."""
    intrinsics: Float64
    """(N, 3, 3) in pixels of `grey`; the centre of the top-left pixel is (0.5, 0.5)."""
    cam_from_submap: Float64
    """(N, 3, 4)."""

    def __len__(self) -> int:
        return len(self.grey)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.grey.shape[2], self.grey.shape[1]

    def pair(self, reference: int, source: int) -> PairGeometry:
        """Geometry of the ordered pair."""
        poses = to_4x4(self.cam_from_submap[[source, reference]])
        source_from_reference = poses[0] @ invert(poses[1])
        inverse_k = np.linalg.inv(self.intrinsics[reference])
        return PairGeometry(
            infinite_homography=self.intrinsics[source] @ source_from_reference[:3, :3] @ inverse_k,
            epipole=self.intrinsics[source] @ source_from_reference[:3, 3],
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rays:
    """A x for every pixel x of the reference view: where a pair sends points at infinity, homogeneous."""

    x: Float32
    y: Float32
    z: Float32

    @classmethod
    def at(cls, pair: PairGeometry, x: Float32, y: Float32) -> Rays:
        """Rays at pixel positions of any (broadcastable) shape, centres at 0.5."""
        rows = pair.infinite_homography.astype(np.float32)
        return cls(
            x=rows[0, 0] * x + rows[0, 1] * y + rows[0, 2],
            y=rows[1, 0] * x + rows[1, 1] * y + rows[1, 2],
            z=rows[2, 0] * x + rows[2, 1] * y + rows[2, 2],
        )


def pixel_centres(size: tuple[int, int]) -> tuple[Float32, Float32]:
    """x of shape (1, w) and y of shape (h, 1) of the pixel centres of a (width, height) image."""
    width, height = size
    x = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
    return x, y


def small_views(images: NDArray[np.uint8], intrinsics: Float64, cam_from_submap: Float64) -> Views:
    """Grey images with a long side of at most 336 px, area-averaged, of RGB images (N, H, W, 3)."""
    height, width = images.shape[1:3]
    factor = min(1.0, LONG_SIDE_PX / max(height, width))
    size = (max(8, round(width * factor)), max(8, round(height * factor)))
    grey = [
        cv2.resize(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for i in images
    ]
    return Views(
        grey=np.stack(grey),
        intrinsics=rescale_intrinsics(intrinsics, (width, height), size),
        cam_from_submap=np.asarray(cam_from_submap, dtype=np.float64),
    )
