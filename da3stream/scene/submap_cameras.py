"""The cameras of a reconstructed chunk, without its pixels: what placing submaps needs of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.scene._checks import check_array
from da3stream.scene.chunk import Chunk


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SubmapCameras:
    """The cameras of a submap in its own frame and scale. Row i belongs to frame `chunk.frames[i]`."""

    chunk: Chunk
    cam_from_submap: NDArray[np.float64]
    """(N, 3, 4) submap frame to camera."""
    typical_depth: float
    """Median of the depths > 0, in the submap's unit: the size of the scene; 1 if there is no depth."""

    def __post_init__(self) -> None:
        check_array("cam_from_submap", self.cam_from_submap, (len(self.chunk.frames), 3, 4), np.float64)
        if not self.typical_depth > 0:
            raise ValueError(f"typical_depth must be > 0, got {self.typical_depth}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlacedCameras:
    """The cameras of a submap in the world. Row i belongs to frame `chunk.frames[i]`."""

    chunk: Chunk
    world_from_cam: NDArray[np.float64]
    """(N, 4, 4) camera to world."""
    depth_scale: NDArray[np.float64]
    """(N,) > 0, world units per unit of the submap's depth, frame by frame."""

    def __post_init__(self) -> None:
        n = len(self.chunk.frames)
        check_array("world_from_cam", self.world_from_cam, (n, 4, 4), np.float64)
        check_array("depth_scale", self.depth_scale, (n,), np.float64)
