"""Random subsets of all points that stay under a cap, chosen while the points stream by."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import FrameBlock
from da3stream.writers.cloud import PointCloud, confident_pixels, frame_cloud


class CloudSampler:
    """Takes the same share of the confident points of every frame, and at most `max_points` in all.

    The share is fixed up front: what would use up the cap if every pixel had a depth. A block whose points
    are more than that allows for (many pixels of equal confidence) is sampled more sparsely, so that later
    frames keep their part of the cap. The random numbers of a frame are seeded with its index.
    """

    def __init__(self, *, max_points: int, frames: int, percentile: float) -> None:
        self._max_points = max_points
        self._frames = max(frames, 1)
        self._percentile = percentile
        self._frames_seen = 0
        self._spent = 0.0

    def sample(self, block: FrameBlock) -> PointCloud:
        """The points of a block that are taken, in the order of frames and pixels."""
        pixels = confident_pixels(block, self._percentile)
        expected = block.depth[0].size * (1 - self._percentile / 100) if len(block) else 0.0
        counts = self._counts([len(frame) for frame in pixels], expected)
        clouds = [
            frame_cloud(block, row, _choose(pixels[row], count, seed=int(block.index[row])))
            for row, count in enumerate(counts)
        ]
        return PointCloud.concatenate(clouds)

    def _counts(self, available: Sequence[int], expected: float) -> list[int]:
        """How many points of each frame are taken of those `available`; a full frame has `expected`."""
        self._frames_seen += len(available)
        due = max(0.0, self._max_points * self._frames_seen / self._frames - self._spent)
        total = sum(available)
        share = min(1.0, self._max_points / (self._frames * expected), due / total) if total else 0.0
        counts = []
        for count in available:
            before = self._spent
            # The running total is rounded, not each frame: a cap below one point a frame is used up too.
            self._spent = min(before + share * count, float(self._max_points))
            counts.append(min(floor(self._spent) - floor(before), count))
        return counts


def _choose(pixels: NDArray[np.intp], count: int, seed: int) -> NDArray[np.intp]:
    if count >= len(pixels):
        return pixels
    return np.sort(np.random.default_rng(seed).choice(pixels, count, replace=False, shuffle=False))
