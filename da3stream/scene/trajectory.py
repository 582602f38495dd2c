"""Where the camera was, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.scene._checks import check_array, describe_arrays


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trajectory:
    """The final camera of every selected frame, in one world frame: the first frame's camera, or the world of
    known poses."""

    index: NDArray[np.int64]
    """(N,) frame indices, ascending."""
    timestamp_s: NDArray[np.float64]
    """(N,) seconds."""
    world_from_cam: NDArray[np.float64]
    """(N, 4, 4) camera to world, OpenCV axes."""
    intrinsics: NDArray[np.float64]
    """(N, 3, 3) in pixels of the processing-resolution images."""
    submap: NDArray[np.int64]
    """(N,) index of the chunk that owns the frame."""

    def __post_init__(self) -> None:
        n = len(self.index)
        check_array("index", self.index, (n,), np.integer)
        check_array("timestamp_s", self.timestamp_s, (n,), np.float64)
        check_array("world_from_cam", self.world_from_cam, (n, 4, 4), np.float64)
        check_array("intrinsics", self.intrinsics, (n, 3, 3), np.float64)
        check_array("submap", self.submap, (n,), np.integer)

    def __repr__(self) -> str:
        return f"Trajectory({describe_arrays(world_from_cam=self.world_from_cam)})"

    def __len__(self) -> int:
        return len(self.index)
