from __future__ import annotations

import numpy as np
import pytest

from da3stream.geometry.rigid3 import rotation_angle
from da3stream.synthetic.paths import hand_held_orbit, street_laps


def assert_rigid(poses: np.ndarray) -> None:
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ np.swapaxes(rotations, 1, 2), np.tile(np.eye(3), (len(poses), 1, 1)), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-9)


def test_the_street_closes_and_is_driven_at_one_speed():
    poses = street_laps(2500, lap_frames=1200, step_m=1.2)
    assert_rigid(poses)
    centres = poses[:, :3, 3]
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert steps.min() > 1.15
    assert steps.max() < 1.25
    between_laps = np.linalg.norm(centres[1200:2400] - centres[:1200], axis=1)
    assert 0.1 < between_laps.mean() < 1.0
    assert between_laps.max() < 2.5
    # Somewhere the other side of the lap is far away: it is a loop, not a line.
    assert np.linalg.norm(centres[:600] - centres[600:1200], axis=1).max() > 200


def test_the_camera_looks_along_the_street():
    poses = street_laps(1300)
    steps = np.diff(poses[:, :3, 3], axis=0)
    along = np.einsum("ij,ij->i", steps / np.linalg.norm(steps, axis=1, keepdims=True), poses[:-1, :3, 2])
    assert np.degrees(np.arccos(along.min())) < 4


def test_a_longer_drive_begins_like_a_shorter_one():
    assert np.array_equal(street_laps(3000, seed=5)[:700], street_laps(700, seed=5))
    assert not np.array_equal(street_laps(700, seed=5), street_laps(700, seed=6))


def test_the_orbit_closes_smoothly_and_looks_inward():
    poses = hand_held_orbit(90)
    assert_rigid(poses)
    centres = poses[:, :3, 3]
    angle = np.unwrap(np.arctan2(centres[:, 0], -centres[:, 2]))
    assert np.degrees(angle[-1] - angle[0]) == pytest.approx(385, abs=2)
    inward = np.einsum("ij,ij->i", -centres[:, [0, 2]], poses[:, [0, 2], 2])
    assert (inward > 0).all()
    assert np.linalg.norm(np.diff(centres, axis=0), axis=1).max() < 0.3
    assert np.degrees(rotation_angle(np.swapaxes(poses[:-1, :3, :3], 1, 2) @ poses[1:, :3, :3])).max() < 8
