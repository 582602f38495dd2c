"""What one keyframe sees, in its own camera's frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import FrameBlock
from da3stream.scene.submap import NEGLIGIBLE_CONFIDENCE
from da3stream.store import FrameMaps
from da3stream.viewing.viewed_run import ViewedRun
from da3stream.writers.cloud import confident_pixels, frame_cloud
from da3stream.writers.flying_pixels import without_flying_pixels

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeyframePoints:
    """Points of one keyframe, in units in which the depth of its submap has the median 1."""

    points_in_cam: NDArray[np.float32]
    """(K, 3)"""
    colors: NDArray[np.uint8]
    """(K, 3) RGB."""
    footprint: NDArray[np.float32]
    """(K,) how wide the pixel of the depth map is at the point."""
    depth_unit: float
    """The same unit in the submap's: times the keyframe's depth scale it is the scale of its node."""

    def __len__(self) -> int:
        return len(self.points_in_cam)

    def take(self, rows: NDArray[Any]) -> KeyframePoints:
        """The points of these rows, or of this (K,) mask."""
        return replace(
            self,
            points_in_cam=self.points_in_cam[rows],
            colors=self.colors[rows],
            footprint=self.footprint[rows],
        )

    def in_world(self, world_from_cam: Array, depth_scale: float) -> NDArray[np.float32]:
        """(K, 3) where the points lie if the camera (3, 4) or (4, 4) and the scale of its depth are these."""
        scaled = self.points_in_cam.astype(np.float64) * (depth_scale * self.depth_unit)
        return (scaled @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]).astype(np.float32)


def keyframe_points(
    run: ViewedRun, frame: int, *, confidence_percentile: float, edge_angle_deg: float
) -> KeyframePoints:
    """The points of one stored frame, cleaned as the clouds of the run are.

    Args:
        run: where it is stored.
        frame: its index.
        confidence_percentile: 0 .. 100; so many percent of its pixels, the least confident, are left out.
        edge_angle_deg: as `without_flying_pixels` has it.

    Raises:
        KeyError: the frame is not stored.
        RunCorruptError: its files cannot be read.
    """
    maps = run.maps_of(frame)
    block = _block(run.image_of(frame), maps, frame, run.typical_confidence)
    clean = without_flying_pixels(block, edge_angle_deg)
    cloud = frame_cloud(clean, 0, confident_pixels(clean, confidence_percentile)[0])
    depth = cloud.points_in_world[:, 2]
    return KeyframePoints(
        points_in_cam=cloud.points_in_world,
        colors=cloud.colors,
        footprint=depth / np.float32(maps.intrinsics[0, 0]),
        depth_unit=maps.depth_unit,
    )


def _block(image: NDArray[np.uint8], maps: FrameMaps, frame: int, typical_confidence: float) -> FrameBlock:
    """The frame alone, with its camera as the world and the submap's median depth as the unit."""
    usable = maps.confidence >= NEGLIGIBLE_CONFIDENCE * typical_confidence
    if maps.sky is not None:
        usable &= ~maps.sky
    return FrameBlock(
        submap=0,
        index=np.array([frame]),
        source_index=np.array([frame]),
        timestamp_s=np.zeros(1),
        names=(str(frame),),
        original_size=np.array([[image.shape[1], image.shape[0]]]),
        images=image[None],
        world_from_cam=np.eye(4)[None],
        intrinsics=maps.image_intrinsics[None],
        depth=maps.depth[None] / np.float32(maps.depth_unit),
        confidence=np.where(usable, maps.confidence, np.float32(0))[None],
        depth_intrinsics=maps.intrinsics[None],
    )
