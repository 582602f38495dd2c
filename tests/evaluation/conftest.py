"""Trajectories with known truth and noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream.evaluation import PoseSequence
from da3stream.geometry.sim3 import Sim3


def walk(frames: int, seed: int = 0) -> np.ndarray:
    """(N, 4, 4) a random smooth walk in space."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, 3] = np.cumsum(np.cumsum(rng.normal(size=(frames, 3)), axis=0) * 0.02, axis=0)
    poses[:, :3, :3] = Rotation.from_rotvec(
        np.cumsum(rng.normal(size=(frames, 3)) * 0.05, axis=0)
    ).as_matrix()
    return poses


def disturbed(poses: np.ndarray, seed: int = 1, noise: float = 0.05) -> np.ndarray:
    """The same walk with noise, in a frame and scale of its own."""
    rng = np.random.default_rng(seed)
    noisy = poses.copy()
    noisy[:, :3, 3] += noise * rng.normal(size=(len(poses), 3))
    turn = Rotation.from_rotvec(noise * rng.normal(size=(len(poses), 3))).as_matrix()
    noisy[:, :3, :3] = noisy[:, :3, :3] @ turn
    gauge = Sim3(
        scale=0.37, rotation=Rotation.from_rotvec([0.5, -1.0, 0.3]).as_matrix(), translation=[4.0, -2.0, 9.0]
    )
    return gauge.move_pose(noisy)


@pytest.fixture
def truth() -> PoseSequence:
    return PoseSequence(world_from_cam=walk(120), timestamp_s=np.arange(120) / 10)


@pytest.fixture
def estimate(truth) -> PoseSequence:
    return PoseSequence(world_from_cam=disturbed(truth.world_from_cam), timestamp_s=truth.timestamp_s)
