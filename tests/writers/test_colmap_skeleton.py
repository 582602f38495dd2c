"""Thinned models, and the images that follow them."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from da3stream.geometry.rigid3 import invert, rotation_angle
from da3stream.geometry.sim3 import Sim3
from da3stream.writers.colmap.skeleton import MAX_SPACING, evenly, followed, thinned

COUNT = 31
ROWS = np.array([0, 6, 13, 20, 30])


def walk() -> np.ndarray:
    """(COUNT, 4, 4) poses along a bent path."""
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    angles = np.linspace(0, 2, COUNT)
    poses[:, :3, :3] = Rotation.from_euler("y", angles[:, None]).as_matrix()
    poses[:, :3, 3] = np.stack([np.sin(angles), 0.1 * angles, np.cos(angles)], axis=1)
    return poses


def model_of(poses: np.ndarray) -> pycolmap.Reconstruction:
    """Every three neighbours see a point."""
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(model="PINHOLE", camera_id=1, width=64, height=48, params=[50, 50, 32, 24])
    model.add_camera_with_trivial_rig(camera)
    for image_id, pose in enumerate(poses, start=1):
        places = [pycolmap.Point2D(np.array([column, 5.0])) for column in (1.0, 2.0, 3.0)]
        image = pycolmap.Image(name=f"{image_id}.png", camera_id=1, image_id=image_id, points2D=places)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(invert(pose)[:3]))
    for first in range(1, len(poses) - 1):
        track = pycolmap.Track()
        for place in range(3):
            track.add_element(first + place, place)
        model.add_point3D(np.array([0.0, 0.0, first]), track, np.zeros(3, np.uint8))
    return model


@pytest.mark.parametrize("count", [2, 7, 50, 301, 2000, 2200, 5001])
def test_images_are_chosen_evenly_from_the_first_to_the_last(count):
    ids = list(range(1, count + 1))
    chosen = evenly(ids, 300)
    steps = np.diff(chosen)
    assert (chosen[0], chosen[-1]) == (1, count)
    assert steps.min() >= 1
    assert steps.max() <= min(MAX_SPACING, steps.min() + 1)
    assert len(chosen) == min(count, 300) or (len(chosen) > 300 and steps.max() == MAX_SPACING)


def test_a_thinned_model_has_what_the_chosen_images_see_and_the_original_all():
    model = model_of(walk())
    sparse = thinned(model, [1, 3, 5, 31])
    assert sorted(sparse.reg_image_ids()) == [1, 3, 5, 31]
    tracks = [{each.image_id for each in point.track.elements} for point in sparse.points3D.values()]
    assert tracks == [{1, 3}, {3, 5}], "a point that one image sees says nothing"
    assert model.num_reg_images() == COUNT
    assert model.compute_num_observations() == 3 * (COUNT - 2)


def test_all_follow_a_movement_of_the_whole():
    whole = Sim3(
        scale=1.3,
        rotation=Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix(),
        translation=np.array([1, 2, 3]),
    )
    poses = walk()
    moved = whole.move_pose(poses)
    assert np.allclose(followed(poses, ROWS, moved[ROWS]), moved, atol=1e-12)


def test_those_that_were_moved_are_where_they_were_moved_to_and_the_others_between():
    poses, rng = walk(), np.random.default_rng(0)
    moved = poses[ROWS].copy()
    moved[:, :3, :3] = Rotation.from_rotvec(0.02 * rng.normal(size=(5, 3))).as_matrix() @ moved[:, :3, :3]
    moved[:, :3, 3] += 0.02 * rng.normal(size=(5, 3))
    result = followed(poses, ROWS, moved)
    assert np.allclose(result[ROWS], moved, atol=1e-12)
    turns = rotation_angle(result[:, :3, :3] @ np.swapaxes(poses[:, :3, :3], 1, 2))
    shifts = np.linalg.norm(result[:, :3, 3] - poses[:, :3, 3], axis=1)
    assert turns.max() <= turns[ROWS].max() + 1e-9
    assert shifts.max() <= 2 * shifts[ROWS].max()
    steps = np.linalg.norm(np.diff(result[:, :3, 3] - poses[:, :3, 3], axis=0), axis=1)
    assert steps.max() < 0.02, "no jumps"


def test_images_at_one_place_are_not_scaled():
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    turned = poses[ROWS].copy()
    turned[:, :3, :3] = Rotation.from_euler("y", 0.1).as_matrix()
    result = followed(poses, ROWS, turned)
    assert np.allclose(result[:, :3, :3], turned[0, :3, :3])
    assert np.allclose(result[:, :3, 3], 0)
