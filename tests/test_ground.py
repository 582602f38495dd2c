"""Where up is: rooms and streets whose every plane is known, in frames that are turned at random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream.geometry.camera import pixel_rays
from da3stream.ground import ground_of, up_of_cameras, up_of_ground
from da3stream.scene import FrameBlock
from da3stream.world_frame import upright_rotation

from .writers.plane_scene import plane_block

UP = np.array([0.0, -1.0, 0.0])
SIZE = (51, 84)
CAMERA = np.array([[48.0, 0, 42.0], [0, 48.0, 25.5], [0, 0, 1]])
Plane = tuple[tuple[float, float, float], float]
"""normal @ x = offset, in metres; y down, the path along z at height 0."""

FLOOR: Plane = ((0, 1, 0), 1.5)
CEILING: Plane = ((0, 1, 0), -1.2)
WALLS: tuple[Plane, ...] = (((1, 0, 0), 0.8), ((1, 0, 0), -0.9), ((0, 0, 1), 30.0), ((0, 0, 1), -30.0))


def tilted(pitch_deg: float, roll_deg: float, yaw_deg: float = 0.0) -> np.ndarray:
    """(3, 3) world_from_cam; positive pitch looks down."""
    return Rotation.from_euler("yxz", [yaw_deg, -pitch_deg, roll_deg], degrees=True).as_matrix()


def frame(
    index: int,
    planes: tuple[Plane, ...],
    rotation: np.ndarray,
    centre: tuple[float, float, float] = (0, 0, 0),
    *,
    turn: np.ndarray,
    noise: float = 0.0,
) -> FrameBlock:
    """What a camera sees of planes, in a world frame that is turned by `turn` (3, 3) and moved."""
    rays = pixel_rays(CAMERA, *SIZE) @ rotation.T
    depths = []
    for normal, offset in planes:
        with np.errstate(divide="ignore"):
            depth = (offset - np.dot(normal, centre)) / (rays @ np.array(normal, dtype=float))
        depths.append(np.where(depth > 0, depth, np.inf))
    depth = np.min(depths, axis=0)
    depth *= 1 + noise * np.random.default_rng(index).standard_normal(SIZE)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn @ rotation, turn @ np.array(centre) + [3.0, -2.0, 1.0]
    seen = np.isfinite(depth)
    return replace(
        plane_block(0, 1),
        index=np.array([index]),
        world_from_cam=pose[None],
        depth=np.where(seen, depth, 0).astype(np.float32)[None],
        confidence=seen.astype(np.float32)[None],
        depth_intrinsics=CAMERA[None],
    )


def found_up(frames: list[FrameBlock]) -> np.ndarray | None:
    cameras_up = up_of_cameras(np.concatenate([block.world_from_cam for block in frames]))
    assert cameras_up is not None
    planes = [ground_of(block, 0, cameras_up) for block in frames]
    return up_of_ground([plane for plane in planes if plane is not None])


def angle_deg(a: np.ndarray | None, b: np.ndarray) -> float:
    assert a is not None
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


TURNS = Rotation.random(4, random_state=5).as_matrix()


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (20, 0), (-10, 8), (35, -15)])
def test_a_corridor_comes_out_upright_though_its_walls_are_larger(
    turn: np.ndarray, pitch: float, roll: float
) -> None:
    poses = [tilted(pitch + wobble, roll - wobble) for wobble in (-4, -1, 2, 5)]
    planes = (FLOOR, CEILING, *WALLS)
    frames = [frame(i, planes, pose, turn=turn, noise=0.01) for i, pose in enumerate(poses)]
    assert angle_deg(found_up(frames), turn @ UP) < 0.5


@pytest.mark.parametrize("turn", TURNS[:2])
def test_the_ground_is_below_though_some_frames_are_upside_down(turn: np.ndarray) -> None:
    poses = [tilted(15, 180 if i < 3 else 0, 40 * i) for i in range(9)]
    frames = [frame(i, (FLOOR, CEILING), pose, turn=turn) for i, pose in enumerate(poses)]
    assert angle_deg(found_up(frames), turn @ UP) < 0.5


def test_a_ceiling_is_no_ground() -> None:
    frames = [frame(i, (CEILING, *WALLS), tilted(-20, 0), turn=TURNS[0]) for i in range(3)]
    assert found_up(frames) is None


def test_walls_are_no_ground() -> None:
    frames = [frame(i, WALLS, tilted(10, 0), turn=TURNS[0]) for i in range(3)]
    assert found_up(frames) is None


def test_a_ramp_on_the_way_does_not_tilt_the_street() -> None:
    slope = np.radians(8)
    ramp: Plane = ((0, float(np.cos(slope)), float(np.sin(slope))), 1.5)
    on_ramp = Rotation.from_euler("x", 8, degrees=True).as_matrix()
    frames = [frame(i, (FLOOR, *WALLS[2:]), tilted(3, 0), turn=TURNS[1]) for i in range(7)]
    frames += [frame(i, (ramp, *WALLS[2:]), on_ramp @ tilted(3, 0), turn=TURNS[1]) for i in range(7, 12)]
    assert angle_deg(found_up(frames), TURNS[1] @ UP) < 0.5


def test_a_street_that_slopes_all_along_comes_out_level() -> None:
    """As the option says: nothing but the ground tells where up is."""
    slope = np.radians(6)
    normal = np.array([0, np.cos(slope), np.sin(slope)])
    ramp: Plane = ((0, float(normal[1]), float(normal[2])), 1.5)
    frames = [frame(i, (ramp, *WALLS), tilted(0, 0), turn=TURNS[2], noise=0.01) for i in range(5)]
    assert angle_deg(found_up(frames), TURNS[2] @ -normal) < 0.5


def test_the_ground_is_the_same_twice() -> None:
    block = frame(3, (FLOOR, *WALLS), tilted(10, 3), turn=TURNS[3], noise=0.02)
    first, second = (ground_of(block, 0, TURNS[3] @ UP) for _ in range(2))
    assert first is not None
    assert second is not None
    assert np.array_equal(first.up, second.up)
    assert 0 < first.share < 1


def test_the_cameras_up_is_the_mean_of_the_image_tops() -> None:
    poses = np.tile(np.eye(4), (3, 1, 1))
    for pose, pitch in zip(poses, (-20, 5, 15), strict=True):
        pose[:3, :3] = TURNS[0] @ tilted(pitch, 0)
    assert angle_deg(up_of_cameras(poses), TURNS[0] @ UP) < 0.5


def test_cameras_that_are_turned_over_say_nothing() -> None:
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, :3] = tilted(0, 180)
    assert up_of_cameras(poses) is None
    assert up_of_ground([]) is None


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("pitch", [0, 30, -60, 89, -89])
def test_an_upright_world_has_y_down_and_z_ahead(turn: np.ndarray, pitch: float) -> None:
    first = np.eye(4)
    first[:3, :3] = turn @ tilted(pitch, 0)
    rotation = upright_rotation(turn @ UP, first)
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert np.allclose(rotation @ turn, np.eye(3), atol=1e-9)  # heading and all: only the pitch was there
