"""The matched images of one chunk: what every later step of the sparse reconstruction reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OFFSETS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Images are matched with the images this many positions later in the chunk."""
LONGEST_STEP = 4
"""Times the usual step between two frames of a chunk; a longer one is a jump to another place."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TwoView:
    """Verified matches of two images and the matrices that explain them; NaN for a matrix that was not
    found."""

    matches: NDArray[np.int32]
    """(M, 2) rows of the keypoints of the first and the second image; M = 0 where verification failed."""
    kind: int
    """COLMAP's TwoViewGeometryConfiguration."""
    fundamental: NDArray[np.float64]
    """(3, 3): x2' F x1 = 0 in pixels."""
    essential: NDArray[np.float64]
    """(3, 3): y2' E y1 = 0 on rays with z = 1."""
    homography: NDArray[np.float64]
    """(3, 3): x2 ~ H x1 in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ViewGraph:
    """Keypoints of N images and the pairs of images that match."""

    keypoints: tuple[NDArray[np.float32], ...]
    """N arrays (K_i, 2) in pixels, top-left pixel centre (0.5, 0.5)."""
    pairs: NDArray[np.int32]
    """(P, 2) image numbers, the first smaller than the second."""
    two_views: tuple[TwoView, ...]
    """P entries, each with at least one match."""

    def __post_init__(self) -> None:
        if self.pairs.shape != (len(self.two_views), 2):
            raise ValueError(
                f"{len(self.two_views)} two-view geometries for pairs of shape {self.pairs.shape}"
            )

    @property
    def num_matches(self) -> int:
        """Verified matches over all pairs."""
        return sum(len(view.matches) for view in self.two_views)

    def matched_points(self, pair: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(M, 2) pixels of the matches of a pair, in its first and in its second image."""
        first, second = self.pairs[pair]
        rows = self.two_views[pair].matches
        return (
            self.keypoints[first][rows[:, 0]].astype(np.float64),
            self.keypoints[second][rows[:, 1]].astype(np.float64),
        )


def candidate_pairs(indices: NDArray[np.int64], offsets: Sequence[int] = OFFSETS) -> NDArray[np.int32]:
    """(P, 2) image numbers (first < second) to match in a chunk, in ascending order.

    Images that follow each other are matched at some offsets; images on two sides of a jump in the frame
    indices (two visits of a place, say) all with all, since nothing says which of them fit.

    Args:
        indices: (N,) frame indices of the images.
        offsets: how many images apart.
    """
    steps = np.abs(np.diff(indices))
    jumps = steps > LONGEST_STEP * np.median(steps) if len(steps) else np.zeros(0, dtype=bool)
    part = np.concatenate([[0], np.cumsum(jumps)])
    first, second = np.triu_indices(len(indices), k=1)
    wanted = np.isin(second - first, offsets) | (part[first] != part[second])
    return np.stack([first[wanted], second[wanted]], axis=1).astype(np.int32)
