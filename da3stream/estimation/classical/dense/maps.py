"""What goes into dense depth beside images and cameras, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SparseDepth:
    """Depths of triangulated points, seen in each of N frames."""

    positions_px: tuple[NDArray[np.float64], ...]
    """N arrays (K_i, 2): x, y in pixels of the *images*; the centre of the top-left pixel is (0.5, 0.5)."""
    depths: tuple[NDArray[np.float64], ...]
    """N arrays (K_i,): z-depth > 0 in the unit of the poses. K_i may be 0."""

    def __post_init__(self) -> None:
        if len(self.positions_px) != len(self.depths):
            raise ValueError(
                f"{len(self.positions_px)} frames of positions, {len(self.depths)} frames of depths"
            )
        for i, (positions, depths) in enumerate(zip(self.positions_px, self.depths, strict=True)):
            if positions.shape != (len(depths), 2) or depths.ndim != 1:
                raise ValueError(
                    f"frame {i}: positions {positions.shape} do not go with depths {depths.shape}"
                )
            if not (np.isfinite(depths).all() and (depths > 0).all()):
                raise ValueError(f"frame {i}: depths must be finite and > 0")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DenseMaps:
    """Depth and confidence of N frames.

    **Confidence** is the inverse of the estimated relative standard deviation of the depth (20 = 5 %), on
    the same scale in all frames, at most 100: parallax in pixels over the localisation error in pixels, times
    sqrt(confirming frames / 4). Measured pixels have at least 2. What was not measured has

    - 0.01 where depth was filled in from what is around it, or guessed for the whole frame because no other
      frame sees it with parallax: good for a picture, next to nothing in a weighted alignment;
    - 0 where the scene is too far to have parallax (sky): depth is then the far end of the range searched, or
      50 median depths if that is infinite.
    """

    depth: NDArray[np.float32]
    """(N, h, w) z-depth, finite and > 0 everywhere, in the unit of the poses."""
    confidence: NDArray[np.float32]
    """(N, h, w), in [0, 100]; see above."""
    intrinsics: NDArray[np.float64]
    """(N, 3, 3) in pixels of the depth maps; the centre of the top-left pixel is (0.5, 0.5)."""
    sparse_disagreement: float | None
    """Median relative difference between measured pixels and the sparse points in them, None without any.
    Some per cent are normal; a tenth or more says that poses, intrinsics or points are wrong."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Estimate:
    """One frame's depth from one method, before the methods and the frames are compared."""

    inverse_depth: NDArray[np.float32]
    """(h, w), >= 0; meaningless where `confidence` is 0."""
    confidence: NDArray[np.float32]
    """(h, w) inverse relative standard deviation, 0 = no estimate."""

    @classmethod
    def nothing(cls, size: tuple[int, int]) -> Estimate:
        """An estimate that knows nothing of a (width, height) frame."""
        zero = np.zeros(size[::-1], dtype=np.float32)
        return cls(inverse_depth=zero, confidence=zero)
