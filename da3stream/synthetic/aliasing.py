"""An estimator that is deceived: it takes two different places for one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.sim3 import Sim3
from da3stream.scene import KnownCameras, Prediction
from da3stream.synthetic.capture import SimulatedEstimator
from da3stream.synthetic.world import SimulatedWorld, TrueDepth

_SAME_PLACE = 64
"""Frames further apart than this belong to different places."""


class AliasingEstimator:
    """A `GeometryEstimator` that puts the second place of a chunk on top of the first (perceptual aliasing).

    Each place is as consistent in itself as `SimulatedEstimator` makes it; only the transform between the two
    is invented: the middle cameras of both coincide but for a small random offset. Chunks from one place are
    those of `SimulatedEstimator`.

    Args:
        world: the world that the frames show.
        seed: what errors and offsets are drawn from.
        level: size of the errors, as of `SimulatedEstimator`.
        offset: standard deviation of the offset: radians, and lengths as a share of the median depth.
    """

    name = "aliasing"
    is_metric = False

    def __init__(self, world: SimulatedWorld, seed: int, level: float = 1.0, offset: float = 0.1) -> None:
        self.world, self.seed, self.level, self.offset = world, seed, level, offset

    def estimate(
        self, images: NDArray[np.uint8], *, indices: NDArray[Any], known_cameras: KnownCameras | None = None
    ) -> Prediction:
        """Predict the frames `indices` (N,); images may have any content, known cameras change nothing."""
        seen = _MovedWorld(self.world, self._confused_poses([int(i) for i in indices]))
        estimator = SimulatedEstimator(seen, self.seed, self.level)
        return estimator.estimate(images, indices=indices, known_cameras=known_cameras)

    def _confused_poses(self, indices: list[int]) -> NDArray[np.float64]:
        """(F, 4, 4) poses of all frames of the world, those of the second place moved onto the first."""
        poses = self.world.world_from_cam.copy()
        jumps = [k for k, (a, b) in enumerate(pairwise(indices), start=1) if abs(b - a) > _SAME_PLACE]
        if not jumps:
            return poses
        first, second = indices[: jumps[0]], indices[jumps[0] :]
        rng = np.random.default_rng([self.seed, first[0], second[0]])
        depth = float(np.median(self.world.true_depth(first[len(first) // 2]).depth))
        tangent = self.offset * rng.normal(size=7) * [1, 1, 1, depth, depth, depth, 0]
        onto = poses[first[len(first) // 2]] @ Sim3.exp(tangent).matrix()
        poses[second] = onto @ np.linalg.inv(poses[second[len(second) // 2]]) @ poses[second]
        return poses


class _MovedWorld(SimulatedWorld):
    """What the cameras of a world see, as if they had stood elsewhere."""

    def __init__(self, world: SimulatedWorld, world_from_cam: NDArray[np.float64]) -> None:
        # Nothing is cast here, so that the boxes of the base class are not needed.
        self._world, self.world_from_cam = world, world_from_cam
        self.size, self.indoor, self.intrinsics = world.size, world.indoor, world.intrinsics

    def true_depth(self, index: int) -> TrueDepth:
        return self._world.true_depth(index)
