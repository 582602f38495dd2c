"""The depth of finished frames at the largest size that a run has kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import FrameBlock
from da3stream.writers.upsampling import DepthMap, resample_depth, resize_depth


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameDepth:
    """The depth map of one frame, with its own camera."""

    depth: NDArray[np.float32]
    """(H, W) z-depth in world units, 0 = unknown."""
    confidence: NDArray[np.float32]
    """(H, W) >= 0, 0 exactly where depth is 0."""
    intrinsics: NDArray[np.float64]
    """(3, 3) in pixels of the map; the centre of the top-left pixel is (0.5, 0.5)."""


def depth_of(block: FrameBlock, row: int) -> FrameDepth:
    """A frame's depth: of full size, with the camera of the image, after `--keep full`; else as reduced.

    What the run takes for unknown in the reduced depth (sky, filled holes) is unknown at full size too.
    """
    if block.full_depth is not None:
        found = _full(block, row)
        return FrameDepth(depth=found.depth, confidence=found.confidence, intrinsics=block.intrinsics[row])
    depth, confidence = block.depth[row], block.confidence[row]
    is_known = (confidence > 0) & (depth > 0) & np.isfinite(depth)
    zero = np.float32(0)
    return FrameDepth(
        depth=np.where(is_known, depth, zero).astype(np.float32),
        confidence=np.where(is_known, confidence, zero).astype(np.float32),
        intrinsics=block.depth_intrinsics[row],
    )


def depth_at_image_size(block: FrameBlock, row: int) -> DepthMap:
    """A frame's depth for every pixel of its image; reduced depth is interpolated."""
    return _reduced_at_image_size(block, row) if block.full_depth is None else _full(block, row)


def _full(block: FrameBlock, row: int) -> DepthMap:
    assert block.full_depth is not None
    assert block.full_confidence is not None
    full = resize_depth(block.full_depth[row], block.full_confidence[row], *block.images.shape[1:3])
    is_known = (full.confidence > 0) & (_reduced_at_image_size(block, row).confidence > 0)
    zero = np.float32(0)
    return DepthMap(
        depth=np.where(is_known, full.depth, zero), confidence=np.where(is_known, full.confidence, zero)
    )


def _reduced_at_image_size(block: FrameBlock, row: int) -> DepthMap:
    return resample_depth(
        block.depth[row],
        block.confidence[row],
        block.depth_intrinsics[row],
        block.intrinsics[row],
        *block.images.shape[1:3],
    )
