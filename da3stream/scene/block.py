"""Finished frames on their way to the writers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.scene._checks import check_array, describe_arrays
from da3stream.scene.gaussians import FrameGaussians


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameBlock:
    """Consecutive finished frames, those that one chunk owns, in the world frame. Row i is one frame."""

    submap: int
    """Index of the chunk that owns the frames."""
    index: NDArray[np.int64]
    """(M,) frame indices, ascending."""
    source_index: NDArray[np.int64]
    """(M,) positions in the source."""
    timestamp_s: NDArray[np.float64]
    """(M,) seconds."""
    names: tuple[str, ...]
    """M file names, unique within a run."""
    original_size: NDArray[np.int64]
    """(M, 2) width and height in pixels of the user's images."""
    images: NDArray[np.uint8]
    """(M, H, W, 3) RGB at processing resolution."""
    world_from_cam: NDArray[np.float64]
    """(M, 4, 4) camera to world."""
    intrinsics: NDArray[np.float64]
    """(M, 3, 3) in pixels of `images`."""
    depth: NDArray[np.float32]
    """(M, h, w) z-depth in world units, reduced."""
    confidence: NDArray[np.float32]
    """(M, h, w) >= 0, 0 = never use."""
    depth_intrinsics: NDArray[np.float64]
    """(M, 3, 3) in pixels of `depth`."""
    full_depth: NDArray[np.float32] | None = None
    """(M, h', w') z-depth in world units as the estimator gave it; only if the run was kept in full."""
    full_confidence: NDArray[np.float32] | None = None
    """(M, h', w') likewise."""
    gaussians: FrameGaussians | None = None
    """What the M frames see, in their cameras and in world units; only for a format that asks for them."""

    def __post_init__(self) -> None:
        m = len(self.index)
        check_array("index", self.index, (m,), np.integer)
        check_array("source_index", self.source_index, (m,), np.integer)
        check_array("timestamp_s", self.timestamp_s, (m,), np.float64)
        check_array("original_size", self.original_size, (m, 2), np.integer)
        check_array("images", self.images, (m, None, None, 3), np.uint8)
        check_array("world_from_cam", self.world_from_cam, (m, 4, 4), np.float64)
        check_array("intrinsics", self.intrinsics, (m, 3, 3), np.float64)
        check_array("depth", self.depth, (m, None, None), np.floating)
        check_array("confidence", self.confidence, self.depth.shape, np.floating)
        check_array("depth_intrinsics", self.depth_intrinsics, (m, 3, 3), np.float64)
        if self.full_depth is not None:
            check_array("full_depth", self.full_depth, (m, None, None), np.floating)
        if self.full_confidence is not None:
            full_shape = (m, None, None) if self.full_depth is None else self.full_depth.shape
            check_array("full_confidence", self.full_confidence, full_shape, np.floating)
        if self.gaussians is not None:
            check_array("gaussians.counts", self.gaussians.counts, (m,), np.integer)
        if len(self.names) != m:
            raise ValueError(f"{len(self.names)} names for {m} frames")

    def __repr__(self) -> str:
        arrays = describe_arrays(
            index=self.index, images=self.images, depth=self.depth, full_depth=self.full_depth
        )
        return f"FrameBlock(submap={self.submap}, {arrays})"

    def __len__(self) -> int:
        return len(self.index)
