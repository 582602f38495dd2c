from __future__ import annotations

import numpy as np
import pytest

from da3stream.geometry.rigid3 import invert, to_4x4
from da3stream.synthetic.aliasing import AliasingEstimator
from da3stream.synthetic.capture import SimulatedEstimator, SimulatedWorld
from da3stream.synthetic.paths import street_laps

FIRST, SECOND = tuple(range(20, 27)), tuple(range(220, 227))


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    return SimulatedWorld(street_laps(300, lap_frames=300), 1, size=(6, 12))


def predict(estimator, frames):
    return estimator.estimate(np.zeros((len(frames), 1, 1, 3), np.uint8), indices=np.array(frames))


def poses(prediction) -> np.ndarray:
    return invert(to_4x4(prediction.cam_from_submap))


def motion(submap_from_cam: np.ndarray) -> np.ndarray:
    return np.linalg.inv(submap_from_cam[:1]) @ submap_from_cam


def test_one_place_is_seen_as_it_is(world):
    honest = predict(SimulatedEstimator(world, 1), FIRST)
    deceived = predict(AliasingEstimator(world, 1), FIRST)
    assert np.array_equal(honest.depth, deceived.depth)
    assert np.array_equal(honest.cam_from_submap, deceived.cam_from_submap)


def test_the_second_place_lies_on_the_first_and_is_whole_in_itself(world):
    chunk = predict(AliasingEstimator(world, 1, level=0.0, offset=0.02), FIRST + SECOND)
    unit = float(np.median(chunk.depth))
    both = poses(chunk)
    assert np.linalg.norm(both[3, :3, 3] - both[10, :3, 3]) < 0.2 * unit
    for rows, frames in ((slice(0, 7), FIRST), (slice(7, 14), SECOND)):
        truth = motion(world.world_from_cam[list(frames)])
        claimed = motion(both[rows])
        scale = np.linalg.norm(claimed[-1, :3, 3]) / np.linalg.norm(truth[-1, :3, 3])
        np.testing.assert_allclose(claimed[:, :3, :3], truth[:, :3, :3], atol=1e-6)
        np.testing.assert_allclose(claimed[:, :3, 3], scale * truth[:, :3, 3], atol=1e-5 * unit)
        depth = np.stack([world.true_depth(frame).depth for frame in frames])
        np.testing.assert_allclose(chunk.depth[rows], scale * depth, rtol=1e-5)


def test_the_offset_is_drawn_for_each_pair_and_seed_and_repeats(world):
    first = predict(AliasingEstimator(world, 1), FIRST + SECOND)
    again = predict(AliasingEstimator(world, 1), FIRST + SECOND)
    other = predict(AliasingEstimator(world, 2), FIRST + SECOND)
    assert np.array_equal(first.cam_from_submap, again.cam_from_submap)
    offsets = [motion(poses(one))[10, :3, :3] for one in (first, other)]
    assert np.abs(offsets[0] - offsets[1]).max() > 0.01


def test_the_world_is_left_alone(world):
    before = world.world_from_cam.copy()
    predict(AliasingEstimator(world, 1), FIRST + SECOND)
    assert np.array_equal(world.world_from_cam, before)
