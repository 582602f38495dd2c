"""Errors of the kind that a feed-forward reconstruction network makes, drawn for one chunk at a time.

At level 1, per chunk: smooth drift (three sines) of scale 1.2 %, rotation 0.25 deg and translation 0.4 % of
the median depth, the scale integrated along the chunk. Per frame: rotation 0.02 deg, translation 0.06 %,
depth bias 0.8 %. Depth: low-frequency 1.2 %, pixel noise 1.2 % x (1 + depth / median), 6 % outliers of which
15 % keep their confidence. Focal length: 0.8 % a chunk, 0.4 % a frame. All of it grows by 15 % for each frame
that is left out between two, at most fourfold. Level 0 leaves exact geometry. Every chunk has a random Sim(3)
of its own at any level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.synthetic.world import SimulatedWorld

Array = NDArray[np.float64]

_DRIFT_SINES = 3
_LONGEST_STEP = 64
"""Between frames further apart than this no motion is integrated: the chunk joins two places."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _View:
    """Depth maps of a chunk with the errors of their own."""

    depth: Array
    confidence: Array


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SimulatedChunk:
    """What a network might return for a chunk, in a frame and scale of its own."""

    depth: NDArray[np.float32]
    """(N, H, W) z-depth > 0."""
    confidence: NDArray[np.float32]
    """(N, H, W) >= 0, median 1.5."""
    cam_from_submap: Array
    """(N, 3, 4)."""
    intrinsics: Array
    """(N, 3, 3) in pixels of the depth maps."""


def spacing_factor(indices: Sequence[int]) -> float:
    """How much harder a chunk is than one of adjacent frames: 1 .. 4."""
    gap = float(np.median(np.abs(np.diff(indices)))) if len(indices) > 1 else 1.0
    return min(4.0, 1 + 0.15 * (gap - 1))


def simulate_chunk(
    world: SimulatedWorld, indices: Sequence[int], *, seed: int, level: float
) -> SimulatedChunk:
    """Draw the prediction for these frames of the world; equal arguments give equal results."""
    n = len(indices)
    rng = np.random.default_rng([seed, n, indices[0], indices[-1], sum(indices) % 100003])
    level = level * spacing_factor(indices)
    truth = [world.true_depth(i) for i in indices]
    depth, sky = np.stack([t.depth for t in truth]), np.stack([t.sky for t in truth])
    median_depth = float(np.median(depth[~sky]))
    # The order of the draws is fixed: captures are compared across programs by their seeds.
    scale_drift = np.exp(0.012 * level * _smooth(n, rng))
    poses = _drifted_poses(
        world.world_from_cam[list(indices)], indices, scale_drift, level, median_depth, rng
    )
    view = _noisy_depth(depth * scale_drift[:, None, None], depth / median_depth, sky, level, rng)
    scale = np.exp(0.5 * rng.normal())
    submap_from_cam = _gauge(median_depth, rng) @ np.linalg.inv(world.world_from_cam[indices[n // 2]]) @ poses
    submap_from_cam[:, :3, 3] *= scale
    return SimulatedChunk(
        depth=(view.depth * scale).astype(np.float32),
        confidence=view.confidence.astype(np.float32),
        cam_from_submap=np.linalg.inv(submap_from_cam)[:, :3].astype(np.float64, copy=False),
        intrinsics=_noisy_intrinsics(world.intrinsics, n, level, rng),
    )


def _smooth(n: int, rng: np.random.Generator) -> Array:
    """(N,) random curve of slow sines over the chunk."""
    x = np.linspace(-1, 1, n)
    curve = np.zeros(n)
    for j in range(_DRIFT_SINES):
        curve = curve + rng.normal() * np.sin(np.pi * (j + 1) * x / 2 + rng.uniform(0, 6)) / (j + 1)
    return curve


def _drifted_poses(
    world_from_cam: Array,
    indices: Sequence[int],
    scale_drift: Array,
    level: float,
    median_depth: float,
    rng: np.random.Generator,
) -> Array:
    """(N, 4, 4) poses whose steps are scaled like the depth, turned and shifted by drift and jitter."""
    n = len(world_from_cam)
    turn = np.stack([np.radians(0.25) * level * _smooth(n, rng) for _ in range(3)], 1)
    shift = np.stack([0.004 * level * median_depth * _smooth(n, rng) for _ in range(3)], 1)
    turn += np.radians(0.02) * level * rng.normal(size=(n, 3))
    shift += 0.0006 * level * median_depth * rng.normal(size=(n, 3))
    poses = world_from_cam.copy()
    centres = world_from_cam[:, :3, 3]
    for k in range(1, n):
        if 0 < indices[k] - indices[k - 1] <= _LONGEST_STEP:
            poses[k, :3, 3] = poses[k - 1, :3, 3] + (centres[k] - centres[k - 1]) * scale_drift[k]
    poses[:, :3, 3] += shift
    poses[:, :3, :3] = poses[:, :3, :3] @ Rotation.from_rotvec(turn).as_matrix()
    return poses


def _noisy_depth(
    depth: Array, relative_depth: Array, sky: NDArray[np.bool_], level: float, rng: np.random.Generator
) -> _View:
    bias = _low_frequency(depth.shape, level, rng) + 0.008 * level * rng.normal(size=(len(depth), 1, 1))
    noise = 0.012 * level * (1 + relative_depth)
    depth = depth * np.exp(bias + noise * rng.normal(size=depth.shape))
    # Confidence is relative: without errors it says what it would say with them.
    expected_noise = noise if level > 0 else 0.012 * (1 + relative_depth)
    confidence = 1.0 / (expected_noise * (1 + 0.3 * np.abs(rng.normal(size=depth.shape))))
    outlier = (rng.random(depth.shape) < 0.06) & (level > 0)
    depth = np.where(outlier, depth * rng.uniform(0.4, 2.5, depth.shape), depth)
    confidence = np.where(outlier & (rng.random(depth.shape) < 0.85), confidence * 0.12, confidence)
    confidence = np.where(sky, 0.02 if level > 0 else 0.0, confidence)
    return _View(depth=depth, confidence=confidence / np.median(confidence[~sky]) * 1.5)


def _low_frequency(shape: tuple[int, ...], level: float, rng: np.random.Generator) -> Array:
    """(N, H, W) relative depth error that bends whole images."""
    n, height, width = shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    a = rng.normal(size=(n, 4, 1, 1)) * 0.012 * level
    return a[:, 0] * x + a[:, 1] * y + a[:, 2] * np.sin(3 * x) + a[:, 3] * x * y


def _gauge(median_depth: float, rng: np.random.Generator) -> Array:
    """(4, 4) random rigid motion: where the submap frame lies is arbitrary."""
    gauge = np.eye(4)
    quaternion = np.random.RandomState(int(rng.integers(1 << 31))).normal(size=4)
    gauge[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    gauge[:3, 3] = rng.normal(size=3) * median_depth
    return gauge


def _noisy_intrinsics(intrinsics: Array, n: int, level: float, rng: np.random.Generator) -> Array:
    noisy = np.tile(intrinsics, (n, 1, 1))
    factor = np.exp(0.004 * level * rng.normal(size=n) + 0.008 * level * rng.normal())
    noisy[:, [0, 1], [0, 1]] *= factor[:, None]
    return noisy
