"""Coloured points of finished frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.camera import pixel_rays
from da3stream.scene import FrameBlock


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PointCloud:
    """Points with colour and confidence."""

    points_in_world: NDArray[np.float32]
    """(K, 3) finite, in world units."""
    colors: NDArray[np.uint8]
    """(K, 3) RGB."""
    confidence: NDArray[np.float32]
    """(K,) > 0, larger is better."""

    def __len__(self) -> int:
        return len(self.points_in_world)

    def take(self, rows: NDArray[Any]) -> PointCloud:
        """The points of these rows, or of this (K,) mask."""
        return PointCloud(
            points_in_world=self.points_in_world[rows],
            colors=self.colors[rows],
            confidence=self.confidence[rows],
        )

    @classmethod
    def concatenate(cls, clouds: Sequence[PointCloud]) -> PointCloud:
        """All points of these clouds, in order; always a copy."""
        empty = np.empty((0, 3), dtype=np.float32)
        return cls(
            points_in_world=np.concatenate([empty, *(cloud.points_in_world for cloud in clouds)]),
            colors=np.concatenate([empty.astype(np.uint8), *(cloud.colors for cloud in clouds)]),
            confidence=np.concatenate([empty[:, 0], *(cloud.confidence for cloud in clouds)]),
        )


def confident_pixels(block: FrameBlock, percentile: float) -> list[NDArray[np.intp]]:
    """Pixels of every depth map that are worth a point, as ascending indices into the flattened map.

    Of the pixels of the whole block with confidence > 0 and a finite depth > 0, the least confident
    `percentile` percent are left out. Pixels as confident as the last one that is kept are kept too, so that
    equally confident maps lose nothing.
    """
    usable = (block.confidence > 0) & (block.depth > 0) & np.isfinite(block.depth)
    ranked = block.confidence[usable]
    dropped = int(len(ranked) * percentile / 100)
    if dropped:
        usable &= block.confidence >= np.partition(ranked, dropped)[dropped]
    return [np.flatnonzero(frame) for frame in usable]


def footprint_of(block: FrameBlock) -> float | None:
    """How wide a typical usable pixel of the depth maps is where its point lies, in world units.

    The median of depth over focal length; None if no pixel is usable.
    """
    usable = (block.confidence > 0) & (block.depth > 0) & np.isfinite(block.depth)
    widths = block.depth / block.depth_intrinsics[:, 0, 0].astype(np.float32)[:, None, None]
    return float(np.median(widths[usable])) if usable.any() else None


def confident_cloud(block: FrameBlock, percentile: float) -> PointCloud:
    """The points of all pixels that `confident_pixels` takes, in the order of frames and pixels."""
    pixels = confident_pixels(block, percentile)
    return PointCloud.concatenate([frame_cloud(block, row, chosen) for row, chosen in enumerate(pixels)])


def frame_cloud(block: FrameBlock, row: int, pixels: NDArray[np.intp]) -> PointCloud:
    """The points of some pixels of one depth map.

    Args:
        block: the frames.
        row: which of them.
        pixels: (K,) indices into the flattened depth map.

    Returns:
        At most K points; those whose coordinates float32 cannot hold are left out.
    """
    height, width = block.depth.shape[1:]
    rays = pixel_rays(block.depth_intrinsics[row], height, width).reshape(-1, 3)[pixels]
    points_in_cam = rays * block.depth[row].ravel()[pixels, None]
    pose = block.world_from_cam[row]
    with np.errstate(over="ignore"):
        points = (points_in_cam @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
    cloud = PointCloud(
        points_in_world=points,
        colors=colors_along(block.images[row], block.intrinsics[row], rays),
        confidence=block.confidence[row].ravel()[pixels].astype(np.float32),
    )
    return cloud.take(np.isfinite(points).all(axis=1))


def pixel_colors(block: FrameBlock, row: int) -> NDArray[np.uint8]:
    """(h, w, 3) RGB of all pixels of one depth map."""
    height, width = block.depth.shape[1:]
    rays = pixel_rays(block.depth_intrinsics[row], height, width).reshape(-1, 3)
    colors = colors_along(block.images[row], block.intrinsics[row], rays)
    return colors.reshape(height, width, 3)


def colors_along(
    image: NDArray[np.uint8], intrinsics: NDArray[np.float64], rays: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """(K, 3) colours of the pixels that (K, 3) rays of the camera frame with z = 1 pass through.

    Depth map and image are two resolutions of one camera, so a ray through a depth pixel's centre meets the
    image at its own place in the convention of the image's intrinsics, whatever the relation of their sizes.
    Rays that miss the image by rounding get the nearest pixel.
    """
    height, width = image.shape[:2]
    columns = np.floor(rays[:, 0] * intrinsics[0, 0] + intrinsics[0, 2]).astype(np.intp)
    rows = np.floor(rays[:, 1] * intrinsics[1, 1] + intrinsics[1, 2]).astype(np.intp)
    return image[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
