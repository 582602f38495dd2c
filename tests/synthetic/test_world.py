from __future__ import annotations

import numpy as np
import pytest

from da3stream.geometry.camera import pixel_rays
from da3stream.synthetic import world as world_module
from da3stream.synthetic.world import SKY_DEPTH, SimulatedWorld


def points_in_world(world: SimulatedWorld, index: int, depth: np.ndarray) -> np.ndarray:
    pose = world.world_from_cam[index]
    return pixel_rays(world.intrinsics, *world.size) * depth[..., None] @ pose[:3, :3].T + pose[:3, 3]


def distance_to_boxes(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(P,) distance of each point from the nearest box's surface."""
    outside = np.maximum(boxes[:, 0] - points[:, None], points[:, None] - boxes[:, 1])
    distance = np.linalg.norm(np.maximum(outside, 0), axis=-1)
    inside = outside.max(-1)
    return np.abs(np.where(inside < 0, inside, distance)).min(1)


@pytest.mark.parametrize("index", [0, 137, 800])
def test_every_point_of_the_street_lies_on_the_ground_or_on_a_house(street, index):
    truth = street.true_depth(index)
    points = points_in_world(street, index, truth.depth)[~truth.sky]
    # The street goes up and down with the trajectory: the ground is as far below the camera everywhere.
    to_ground = np.abs(points[:, 1] - street.world_from_cam[index, 1, 3] - 1.65)
    assert np.minimum(to_ground, distance_to_boxes(street.boxes, points)).max() < 1e-9
    assert np.all(truth.depth[truth.sky] == SKY_DEPTH)
    assert 0.02 < truth.sky.mean() < 0.7


def test_nothing_stands_between_the_camera_and_the_depth(room):
    truth = room.true_depth(40)
    centre = room.world_from_cam[40, :3, 3]
    points = points_in_world(room, 40, truth.depth).reshape(-1, 3)
    for share in (0.2, 0.5, 0.9, 0.99):
        between = centre + share * (points - centre)
        inside = ((between[:, None] > room.boxes[:, 0]) & (between[:, None] < room.boxes[:, 1])).all(-1)
        assert not inside.any()


def test_a_room_has_no_sky(room):
    assert not any(room.true_depth(index).sky.any() for index in range(0, len(room), 97))


def test_houses_keep_off_the_street(street):
    flat = street.world_from_cam[::4, :3, 3][:, [0, 2]]
    low, high = street.boxes[:, 0][:, [0, 2]], street.boxes[:, 1][:, [0, 2]]
    gap = np.maximum(low[:, None] - flat, flat - high[:, None]).max(-1)
    assert gap.min() > 2.5


def test_memory_is_bounded(small_room, monkeypatch):
    monkeypatch.setattr(world_module, "_CACHED_FRAMES", 5)
    small = SimulatedWorld(small_room.world_from_cam, seed=3, indoor=True, size=(3, 4))
    first = small.true_depth(0).depth
    for index in range(30):
        small.true_depth(index)
    assert len(small._cache) == 5
    assert np.array_equal(small.true_depth(0).depth, first)


def test_equal_seeds_give_equal_worlds(small_room):
    again = SimulatedWorld(small_room.world_from_cam, seed=3, indoor=True, size=(9, 12), hfov_deg=65.0)
    other = SimulatedWorld(small_room.world_from_cam, seed=4, indoor=True, size=(9, 12), hfov_deg=65.0)
    assert np.array_equal(again.true_depth(11).depth, small_room.true_depth(11).depth)
    assert not np.array_equal(other.true_depth(11).depth, small_room.true_depth(11).depth)
