from __future__ import annotations

import cv2
import numpy as np
import pytest

from da3stream.geometry.camera import Camera, pixel_rays, unproject
from da3stream.synthetic.paths import hand_held_orbit
from da3stream.synthetic.render import render_depth, render_image
from da3stream.synthetic.scene import Surface, courtyard

CAMERA = Camera(fx=70.0, fy=72.0, cx=48.0, cy=30.0, width=96, height=60)


@pytest.fixture
def scene(demo):
    return demo.surfaces


@pytest.fixture(scope="module")
def poses():
    return hand_held_orbit(12)


def wall(z: float, texture: np.ndarray, half: float = 50.0) -> Surface:
    return Surface(
        corner=np.array([-half, -half, z]),
        right=np.array([2 * half, 0, 0]),
        down=np.array([0, 2 * half, 0]),
        texture=texture,
    )


def test_depth_is_where_the_ray_meets_the_plane():
    turn = cv2.Rodrigues(np.array([0.1, -0.3, 0.2]))[0]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, [0.3, -0.2, 1.0]
    depth = render_depth([wall(7.0, np.full((4, 4, 3), 99, np.uint8))], CAMERA, pose)
    rays = pixel_rays(CAMERA.matrix(), CAMERA.height, CAMERA.width) @ turn.T
    np.testing.assert_allclose(depth, (7.0 - 1.0) / rays[..., 2], rtol=1e-5)


def test_texture_is_where_the_ray_meets_the_plane():
    """The texture holds its own coordinates: the image must show those of the ray, half-pixels included."""
    gradient = np.zeros((256, 256, 3), np.uint8)
    gradient[..., 0], gradient[..., 1] = np.arange(256), np.arange(256)[:, None]
    surface = wall(5.0, gradient, half=2.9)
    image = render_image([surface], CAMERA, np.eye(4)).astype(np.float64)
    points = unproject(np.full((CAMERA.height, CAMERA.width), 5.0), CAMERA.matrix())
    # Texel t has its centre at (t + 0.5) / 256 of the width; a pixel sees 3.2 texels.
    expected = (points[..., :2] + 2.9) / 5.8 * 256 - 0.5
    inside = (np.abs(points[..., :2]) < 2.7).all(-1)
    error = (image[..., :2] - expected)[inside]
    assert np.abs(error).max() < 1.3
    assert np.abs(error.mean(0)).max() < 0.4


def test_the_nearer_surface_hides_the_farther_one_in_any_order():
    red, green = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    red[..., 0], green[..., 1] = 255, 255
    near, far = wall(2.0, red, half=0.6), wall(4.0, green)
    one, other = (render_image(order, CAMERA, np.eye(4)) for order in ([near, far], [far, near]))
    assert np.array_equal(one, other)
    assert one[30, 48].tolist() == [255, 0, 0]
    assert one[2, 2].tolist() == [0, 255, 0]
    depth = render_depth([near, far], CAMERA, np.eye(4))
    assert depth[30, 48] == pytest.approx(2)
    assert depth[2, 2] == pytest.approx(4)


def test_the_back_of_a_surface_is_not_drawn():
    assert not render_depth([wall(-5.0, np.zeros((4, 4, 3), np.uint8))], CAMERA, np.eye(4)).any()
    behind = np.diag([-1.0, 1, -1, 1])
    behind[2, 3] = 10
    assert not render_depth([wall(5.0, np.zeros((4, 4, 3), np.uint8))], CAMERA, behind).any()


def test_the_courtyard_is_closed(scene, poses):
    for pose in poses:
        depth = render_depth(scene, CAMERA, pose)
        assert depth.min() > 1.0
        assert depth.max() < 11.0


def test_depth_of_one_view_predicts_another(scene, poses):
    """Points of one frame that are not hidden in the next one have the depth that the next one says."""
    turn = poses[1, :3, :3].T @ poses[0, :3, :3]
    first, second = (render_depth(scene, CAMERA, poses[i]) for i in (0, 1))
    points = unproject(first, CAMERA.matrix()) @ turn.T + poses[1, :3, :3].T @ (
        poses[0, :3, 3] - poses[1, :3, 3]
    )
    pixels = points @ CAMERA.matrix().T
    pixels = pixels[..., :2] / pixels[..., 2:]
    inside = (
        (pixels > 1).all(-1)
        & (pixels < [CAMERA.width - 1, CAMERA.height - 1]).all(-1)
        & (points[..., 2] > 0.1)
    )
    column, row = np.floor(pixels[inside]).astype(int).T
    ratio = points[inside][:, 2] / second[row, column]
    assert np.median(np.abs(ratio - 1)) < 0.02
    assert (ratio > 0.9).mean() > 0.97


def test_rendering_is_repeatable(scene, poses):
    first = render_image(scene, CAMERA, poses[0])
    assert np.array_equal(first, render_image(courtyard(), CAMERA, poses[0]))
    assert not np.array_equal(first, render_image(courtyard(seed=1), CAMERA, poses[0]))


def test_frames_are_rich_in_features_that_match_by_the_true_geometry(scene):
    camera = Camera(fx=457.0, fy=457.0, cx=320.0, cy=180.0, width=640, height=360)
    pose_pair = hand_held_orbit(90)[[20, 23]]
    sift, matcher = cv2.SIFT_create(contrastThreshold=0.01), cv2.BFMatcher()
    found = [sift.detectAndCompute(render_image(scene, camera, pose), None) for pose in pose_pair]
    assert min(len(keypoints) for keypoints, _ in found) > 1500
    pairs = [a for a, b in matcher.knnMatch(found[0][1], found[1][1], k=2) if a.distance < 0.75 * b.distance]
    assert len(pairs) > 300
    # OpenCV's keypoints count pixels from the centre of the first one.
    seen = np.array([found[0][0][pair.queryIdx].pt for pair in pairs]) + 0.5
    other = np.array([found[1][0][pair.trainIdx].pt for pair in pairs]) + 0.5
    distance = epipolar_distance(camera, pose_pair, seen, other)
    assert (distance < 1.0).mean() > 0.85


def epipolar_distance(camera, pose_pair, seen, other):
    """(M,) pixels between points of the second image and the epipolar lines of those of the first."""
    relative = np.linalg.inv(pose_pair[1]) @ pose_pair[0]
    x, y, z = relative[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ relative[:3, :3]
    inverse = np.linalg.inv(camera.matrix())
    lines = np.column_stack([seen, np.ones(len(seen))]) @ (inverse.T @ essential @ inverse).T
    return np.abs((lines * np.column_stack([other, np.ones(len(other))])).sum(1)) / np.linalg.norm(
        lines[:, :2], axis=1
    )
