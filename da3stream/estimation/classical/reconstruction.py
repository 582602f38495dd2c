"""A sparse reconstruction of one chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reconstruction:
    """Poses of N images and Q points, in a frame and scale of its own."""

    cam_from_submap: NDArray[np.float64]
    """(N, 3, 4) submap frame to camera; meaningless where not `registered`."""
    registered: NDArray[np.bool_]
    """(N,) True for images whose pose was found."""
    intrinsics: NDArray[np.float64]
    """(N, 3, 3) in pixels of the images."""
    points: NDArray[np.float64]
    """(Q, 3) in the submap frame."""
    observations: NDArray[np.int32]
    """(O, 3) image number, keypoint row, row of `points`, sorted."""

    def __post_init__(self) -> None:
        n = len(self.registered)
        if self.cam_from_submap.shape != (n, 3, 4) or self.intrinsics.shape != (n, 3, 3):
            raise ValueError(
                f"poses {self.cam_from_submap.shape}, intrinsics {self.intrinsics.shape} for {n} images"
            )
        if self.points.shape[1:] != (3,) or self.observations.shape[1:] != (3,):
            raise ValueError(
                f"points {self.points.shape} and observations {self.observations.shape}, expected (*, 3)"
            )

    @property
    def num_registered(self) -> int:
        """Images whose pose was found."""
        return int(self.registered.sum())

    def observed_depths(self) -> NDArray[np.float64]:
        """(O,) z-depth of each observed point in the camera that observes it."""
        image, _, point = self.observations.T
        third_rows = self.cam_from_submap[image, 2]
        return np.einsum("oi,oi->o", third_rows[:, :3], self.points[point]) + third_rows[:, 3]
