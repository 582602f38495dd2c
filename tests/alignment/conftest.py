"""A world whose depth is known, and submaps of it under any Sim(3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from da3stream.geometry import rigid3
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import Chunk, Submap

FRAMES, HEIGHT, WIDTH = 24, 18, 24
INTRINSICS = np.array([[20.0, 0.0, 12.3], [0.0, 21.0, 8.8], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, kw_only=True)
class World:
    """What every submap is cut from."""

    depth: np.ndarray
    """(N, h, w)"""
    world_from_cam: np.ndarray
    """(N, 4, 4)"""

    def submap(
        self,
        index: int,
        frames: range,
        submap_from_world: Sim3,
        *,
        noise: float = 0.0,
        pose_noise: float = 0.0,
        confidence: float = 1.0,
        seed: int = 0,
    ) -> Submap:
        """Some frames in the submap's own frame and scale.

        `noise` is relative to the depth of a pixel, `pose_noise` in radians and relative to a world unit.
        """
        rng = np.random.default_rng([seed, index])
        rows = np.array(frames)
        jitter = Sim3.exp(pose_noise * rng.normal(size=(len(rows), 7)) * [1, 1, 1, 1, 1, 1, 0])
        seen_from = self.world_from_cam[rows] @ jitter.matrix()
        cam_from_submap = rigid3.invert(submap_from_world.move_pose(seen_from))[:, :3]
        depth = self.depth[rows] * (1 + noise * rng.normal(size=(len(rows), HEIGHT, WIDTH)))
        cameras = np.tile(INTRINSICS, (len(rows), 1, 1))
        return Submap(
            chunk=Chunk(index=index, context=tuple(frames)[:1], new=tuple(frames)[1:]),
            depth=(depth * submap_from_world.scale).astype(np.float32),
            confidence=np.full(depth.shape, confidence, dtype=np.float32),
            cam_from_submap=cam_from_submap,
            intrinsics=cameras,
            image_intrinsics=cameras * np.array([3.0, 3.0, 1.0])[:, None],
            is_metric=False,
        )


@pytest.fixture(scope="session")
def world() -> World:
    """A camera that walks and turns before things at depth 2 to 12."""
    rng = np.random.default_rng(0)
    steps = np.arange(FRAMES)[:, None] * [0.0, 0.03, 0.01, 0.1, 0.01, 0.2, 0.0]
    depth = rng.uniform(2, 12, size=(FRAMES, HEIGHT, WIDTH))
    return World(depth=depth, world_from_cam=Sim3.exp(steps).matrix())


@pytest.fixture(scope="session")
def a_from_world() -> Sim3:
    return Sim3.exp([0.5, -0.2, 0.1, 3.0, 1.0, -2.0, np.log(0.6)])


@pytest.fixture(scope="session")
def b_from_world() -> Sim3:
    return Sim3.exp([-0.3, 0.8, 0.4, -1.0, 5.0, 2.0, np.log(2.5)])
