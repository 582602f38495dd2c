"""One reconstructed chunk, as the store holds it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.scene._checks import check_array, describe_arrays
from da3stream.scene.chunk import Chunk

NEGLIGIBLE_CONFIDENCE = 0.01
"""Of what is typical in a run. The classical estimator's fillings have about 0.0005 of it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Submap:
    """One reconstructed chunk in a frame and scale of its own, at the store's resolution and precision.

    Row i of every array belongs to frame `chunk.frames[i]`.
    """

    chunk: Chunk
    depth: NDArray[np.float32]
    """(N, h, w) z-depth, > 0 wherever confidence is > 0, in the submap's unit (metres if `is_metric`)."""
    confidence: NDArray[np.float32]
    """(N, h, w), >= 0, larger is better, 0 = never use."""
    cam_from_submap: NDArray[np.float64]
    """(N, 3, 4) submap frame to camera."""
    intrinsics: NDArray[np.float64]
    """(N, 3, 3) in pixels of the depth maps."""
    image_intrinsics: NDArray[np.float64]
    """(N, 3, 3) in pixels of the processing-resolution images."""
    is_metric: bool
    sky: NDArray[np.bool_] | None = None
    """(N, h, w) True where the sky was recognised, or None."""

    def __post_init__(self) -> None:
        n = len(self.chunk.frames)
        check_array("depth", self.depth, (n, None, None), np.floating)
        _, h, w = self.depth.shape
        check_array("confidence", self.confidence, (n, h, w), np.floating)
        check_array("cam_from_submap", self.cam_from_submap, (n, 3, 4), np.float64)
        check_array("intrinsics", self.intrinsics, (n, 3, 3), np.float64)
        check_array("image_intrinsics", self.image_intrinsics, (n, 3, 3), np.float64)
        if self.sky is not None:
            check_array("sky", self.sky, (n, h, w), np.bool_)

    def __repr__(self) -> str:
        arrays = describe_arrays(depth=self.depth, confidence=self.confidence, intrinsics=self.intrinsics)
        return f"Submap(chunk={self.chunk.index}, {arrays}, is_metric={self.is_metric})"

    def rows(self, frames: tuple[int, ...]) -> NDArray[np.intp]:
        """Rows of the arrays that belong to these frame indices; KeyError for one that is not here."""
        row_of = {frame: row for row, frame in enumerate(self.chunk.frames)}
        return np.array([row_of[frame] for frame in frames], dtype=np.intp)
