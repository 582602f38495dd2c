"""Camera paths of any length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]


def street_laps(
    frames: int, *, seed: int = 0, lap_frames: int = 1200, step_m: float = 1.2, lane_m: float = 0.3
) -> Array:
    """(N, 4, 4) world_from_cam of a drive round and round a closed street, y down, in metres.

    Laps keep to the street but not to the line: the lateral position wanders by about `lane_m`, the heading
    by half a degree. The beginning of a drive does not depend on how long it is.

    Args:
        frames: number of poses.
        seed: shape of the street and of the wandering.
        lap_frames: frames of one lap.
        step_m: distance between two frames.
        lane_m: standard deviation of the lateral position.
    """
    rng = np.random.default_rng(seed)
    # A circle with two slow undulations: a closed street without corners that would need another speed.
    phase, angle = rng.uniform(0, 2 * np.pi, 2), np.linspace(0, 2 * np.pi, 8 * lap_frames + 1)
    radius = 1 + 0.25 * np.sin(2 * angle + phase[0]) + 0.08 * np.sin(3 * angle + phase[1])
    curve = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    curve *= lap_frames * step_m / length[-1]
    lap = np.arange(frames) / lap_frames
    angles = np.interp(lap % 1.0 * length[-1], length, angle)
    position = np.stack([np.interp(angles, angle, curve[:, k]) for k in range(2)], 1)
    gradient = np.stack([np.gradient(curve[:, k]) for k in range(2)], 1)
    tangent = np.stack([np.interp(angles, angle, gradient[:, k]) for k in range(2)], 1)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    position += np.stack([-tangent[:, 1], tangent[:, 0]], 1) * (lane_m * _wander(lap, rng))[:, None]
    heading = np.arctan2(tangent[:, 0], tangent[:, 1]) + np.radians(0.5) * _wander(lap, rng)
    return _level_poses(position, heading)


def _wander(lap: Array, rng: np.random.Generator) -> Array:
    """(N,) sum of sines whose periods do not divide a lap, with a variance of about 1."""
    periods, phases = rng.uniform(0.05, 0.3, 6), rng.uniform(0, 2 * np.pi, 6)
    return np.sin(2 * np.pi * lap[:, None] / periods + phases).sum(1) / np.sqrt(3)


def _level_poses(position_xz: Array, heading: Array) -> Array:
    """Poses at height 0 that look along the heading (radians from z towards x)."""
    poses = np.tile(np.eye(4), (len(heading), 1, 1))
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(heading)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(heading), -np.sin(heading)
    poses[:, [0, 2], 3] = position_xz
    return poses


def hand_held_orbit(
    frames: int, *, seed: int = 0, turn_deg: float = 385.0, radius_m: float = 2.65, eye_height_m: float = 1.55
) -> Array:
    """(N, 4, 4) world_from_cam of a walk around the origin, looking inward, in metres, y down, the floor at
    y = 0.

    The path closes: with more than 360 degrees the last frames see the first place again. Distance, height
    and the point looked at wander slowly; hands shake by a few millimetres and tenths of a degree.

    Args:
        frames: number of poses.
        seed: of the wandering and the shaking.
        turn_deg: how far the walk leads around the origin.
        radius_m: mean distance from the origin.
        eye_height_m: mean height above the floor.
    """
    rng = np.random.default_rng(seed)
    angle = np.radians(turn_deg) * np.arange(frames) / max(frames - 1, 1)
    radius = radius_m + 0.18 * np.sin(2 * angle + 0.4) + 0.12 * np.sin(3 * angle + 2.0)
    height = eye_height_m + 0.12 * np.sin(angle + 1.0) + 0.05 * np.sin(3 * angle)
    position = np.stack([radius * np.sin(angle), -height, -radius * np.cos(angle)], 1)
    position += 0.006 * _shake(frames, rng)
    target = np.stack(
        [0.35 * np.sin(2 * angle + 1.3), -1.15 - 0.15 * np.cos(angle), 0.3 * np.cos(3 * angle)], 1
    )
    poses = np.stack([_look_at(*pair) for pair in zip(position, target, strict=True)])
    poses[:, :3, :3] = (
        poses[:, :3, :3] @ Rotation.from_rotvec(np.radians(0.35) * _shake(frames, rng)).as_matrix()
    )
    return poses


def _shake(frames: int, rng: np.random.Generator) -> Array:
    """(N, 3) sums of sines with periods between 8 and 40 frames, with a variance of about 1."""
    periods, phases = rng.uniform(8, 40, (5, 3)), rng.uniform(0, 2 * np.pi, (5, 3))
    return np.sin(2 * np.pi * np.arange(frames)[:, None, None] / periods + phases).sum(1) / np.sqrt(2.5)


def _look_at(position: Array, target: Array) -> Array:
    """(4, 4) pose at `position` whose optical axis points at `target`, upright in a y-down world."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = position
    return pose
