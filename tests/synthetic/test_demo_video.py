from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest

from da3stream.evaluation import load_trajectory
from da3stream.geometry.camera import unproject
from da3stream.synthetic.picture import beside, depth_strip


@pytest.fixture
def capture(small_demo):
    return replace(small_demo, world_from_cam=small_demo.world_from_cam[:5])


def test_the_truth_has_the_times_of_the_video(tmp_path, capture):
    capture.write_video(tmp_path / "demo.mp4")
    capture.write_truth(tmp_path / "truth.txt")
    truth = load_trajectory(tmp_path / "truth.txt")
    with av.open(str(tmp_path / "demo.mp4")) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    np.testing.assert_allclose(truth.timestamp_s, times, atol=1e-9)
    np.testing.assert_allclose(truth.world_from_cam, capture.world_from_cam, atol=1e-8)


def test_the_field_of_view_is_as_said(demo):
    camera = demo.camera
    assert np.degrees(2 * np.arctan(320 / camera.fx)) == pytest.approx(70)
    assert (camera.cx, camera.cy) == (320, 180)


def test_true_depth_lies_in_the_courtyard(capture):
    points = unproject(capture.true_depth(2), capture.camera.matrix())
    pose = capture.world_from_cam[2]
    in_world = points @ pose[:3, :3].T + pose[:3, 3]
    assert in_world[..., 1].max() < 1e-3
    assert np.abs(in_world[..., [0, 2]]).max() < 5.21


def test_the_demo_closes_a_loop(demo):
    poses = demo.world_from_cam
    assert 72 <= len(poses) <= 90
    distance = np.linalg.norm(poses[60:, :3, 3] - poses[0, :3, 3], axis=1)
    assert distance.min() < 0.2


def test_depth_pictures_go_from_red_near_to_blue_far_and_grey_unknown():
    depth = np.repeat(np.array([[0.0, 1.0, 8.0]]), 30, axis=0).repeat(10, axis=1)
    image = np.full((60, 60, 3), 77, np.uint8)
    strip = depth_strip([image, image], [depth, depth], width=128)
    assert strip.shape == (128, 128, 3)
    assert (strip[:60, :60] == 77).all()
    unknown, near, far = (strip[30, 68 + x].astype(int) for x in (5, 30, 55))
    assert unknown.tolist() == [40, 40, 40]
    assert near[0] > near[2]
    assert far[2] > far[0]


def test_depth_pictures_without_any_depth():
    strip = depth_strip([np.zeros((6, 6, 3), np.uint8)], [np.zeros((2, 2))], width=28)
    assert strip.shape == (10, 28, 3)


def test_pictures_of_different_height_are_centred():
    low, high = np.zeros((2, 4, 3), np.uint8), np.zeros((6, 5, 3), np.uint8)
    joined = beside(low, high)
    assert joined.shape == (6, 25, 3)
    assert (joined[:2, :4] == 255).all()
    assert (joined[2:4, :4] == 0).all()
