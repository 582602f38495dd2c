from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from da3stream.estimation.base import GeometryEstimator
from da3stream.geometry.camera import unproject
from da3stream.geometry.registration import umeyama
from da3stream.geometry.rigid3 import invert, to_4x4
from da3stream.place.base import PlaceDescriptor
from da3stream.source.base import FrameSource
from da3stream.synthetic.capture import (
    SimulatedDescriptor,
    SimulatedEstimator,
    SimulatedSource,
    SimulatedWorld,
)
from da3stream.synthetic.error_model import spacing_factor

GOLDEN = Path(__file__).parents[1] / "fixtures" / "simulated_chunks.npz"
CHUNKS = ("adjacent", "spaced", "two_places", "one")


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


def estimate(world, indices, seed=1, level=1.0):
    images = np.zeros((len(indices), 2, 2, 3), np.uint8)
    return SimulatedEstimator(world, seed, level).estimate(images, indices=np.asarray(indices))


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("capture", ["city_loop", "chess"])
def test_draws_the_numbers_of_the_prototype(street, room, golden, capture, chunk):
    expected = {
        key.rsplit("/", 1)[1]: value for key, value in golden.items() if key.startswith(f"{capture}/{chunk}/")
    }
    prediction = estimate(street if capture == "city_loop" else room, expected["indices"])
    # Ray casting may sum in another order on another machine: equal here, nearly equal everywhere.
    np.testing.assert_allclose(prediction.depth, expected["depth"], rtol=1e-6)
    np.testing.assert_allclose(prediction.confidence, expected["conf"] - 1, atol=5e-7)
    np.testing.assert_allclose(prediction.cam_from_submap, expected["extrinsics"], rtol=1e-5, atol=1e-5)
    half_pixel = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    np.testing.assert_allclose(prediction.intrinsics, expected["intrinsics"] + half_pixel, rtol=1e-6)


def test_the_descriptor_draws_the_numbers_of_the_prototype(street, golden, blank):
    descriptor = SimulatedDescriptor(street).describe(blank(1), indices=np.array([17]))
    np.testing.assert_allclose(descriptor[0], golden["city_loop/descriptor_of_17"], atol=1e-6)


def test_implements_the_protocols(small_room):
    assert isinstance(SimulatedEstimator(small_room, 0), GeometryEstimator)
    assert isinstance(SimulatedDescriptor(small_room), PlaceDescriptor)
    assert isinstance(SimulatedSource(small_room), FrameSource)


@pytest.mark.parametrize("indices", [range(12), range(0, 40, 8), [3, 4, 5, 30, 31, 32], [9, 2, 20]])
def test_level_0_is_exact_under_one_similarity(small_room, indices):
    indices = list(indices)
    prediction = estimate(small_room, indices, level=0.0)
    submap_from_cam = to_4x4(invert(prediction.cam_from_submap))
    truth = small_room.world_from_cam[indices]
    points = [
        unproject(prediction.depth[row], prediction.intrinsics[row]).reshape(-1, 3)
        @ submap_from_cam[row, :3, :3].T
        + submap_from_cam[row, :3, 3]
        for row in range(len(indices))
    ]
    true_points = [
        unproject(small_room.true_depth(index).depth, small_room.intrinsics).reshape(-1, 3) @ pose[:3, :3].T
        + pose[:3, 3]
        for index, pose in zip(indices, truth, strict=True)
    ]
    world_from_submap = umeyama(np.concatenate(points), np.concatenate(true_points))
    moved = world_from_submap.move_pose(submap_from_cam)
    np.testing.assert_allclose(moved, truth, atol=2e-6)
    np.testing.assert_allclose(
        world_from_submap.apply(np.concatenate(points)), np.concatenate(true_points), atol=1e-5
    )
    np.testing.assert_array_equal(prediction.intrinsics, np.tile(small_room.intrinsics, (len(indices), 1, 1)))
    assert abs(np.log(world_from_submap.scale)) > 1e-3


def test_level_0_gives_the_sky_no_confidence(street):
    prediction = estimate(street, [0, 1, 2], level=0.0)
    sky = np.stack([street.true_depth(index).sky for index in range(3)])
    assert sky.any()
    assert np.all(prediction.confidence[sky] == 0)
    assert np.all(prediction.confidence[~sky] > 0)


def test_errors_grow_with_level_and_spacing(small_room):
    def focal_error(level, indices):
        errors = [
            estimate(small_room, indices, seed=seed, level=level).intrinsics[:, 0, 0]
            / small_room.intrinsics[0, 0]
            - 1
            for seed in range(20)
        ]
        return float(np.sqrt(np.mean(np.square(errors))))

    close, apart = list(range(8)), list(range(0, 40, 5))
    assert focal_error(2.0, close) == pytest.approx(2 * focal_error(1.0, close), rel=0.1)
    assert focal_error(1.0, apart) > 1.3 * focal_error(1.0, close)
    assert spacing_factor(range(0, 1000, 100)) == 4.0
    assert spacing_factor([5]) == 1.0


def test_estimates_do_not_depend_on_what_was_asked_before(small_room):
    fresh = SimulatedWorld(small_room.world_from_cam, seed=3, indoor=True, size=(9, 12), hfov_deg=65.0)
    expected = estimate(fresh, [5, 6, 7])
    estimate(small_room, [1, 2, 3])
    again = estimate(small_room, [5, 6, 7])
    for name in ("depth", "confidence", "cam_from_submap", "intrinsics"):
        assert np.array_equal(getattr(expected, name), getattr(again, name)), name


def test_predictions_keep_the_contract(street):
    prediction = estimate(street, range(10, 20))
    assert prediction.depth.dtype == prediction.confidence.dtype == np.float32
    assert prediction.cam_from_submap.dtype == prediction.intrinsics.dtype == np.float64
    assert np.isfinite(prediction.depth).all()
    assert prediction.depth.min() > 0
    assert prediction.confidence.min() >= 0
    rotations = prediction.cam_from_submap[:, :, :3]
    np.testing.assert_allclose(
        rotations @ np.swapaxes(rotations, 1, 2), np.tile(np.eye(3), (10, 1, 1)), atol=1e-12
    )


def test_another_number_of_images_than_indices_is_refused(small_room, blank):
    with pytest.raises(ValueError, match="3 images for 2 indices"):
        SimulatedEstimator(small_room, 0).estimate(blank(3), indices=np.array([0, 1]))


def test_descriptors_know_a_place_again(street, blank):
    descriptor = SimulatedDescriptor(street)
    indices = np.arange(len(street))
    vectors = descriptor.describe(blank(len(indices)), indices=indices)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    query = 100
    revisit = int(np.argmax(vectors[query + 300 :] @ vectors[query])) + query + 300
    centres = street.world_from_cam[:, :3, 3]
    assert np.linalg.norm(centres[revisit] - centres[query]) < 8


def test_a_descriptor_does_not_depend_on_its_company(small_room, blank):
    descriptor = SimulatedDescriptor(small_room, scale_m=1.0)
    together = descriptor.describe(blank(4), indices=np.arange(4))
    alone = np.concatenate([descriptor.describe(blank(1), indices=np.array([i])) for i in range(4)])
    assert np.array_equal(together, alone)
    assert descriptor.describe(blank(0), indices=np.arange(0)).shape == (0, descriptor.dim)


def test_the_source_counts_and_repeats_itself(small_room):
    source = SimulatedSource(small_room, frames=7)
    frames, again = list(source), list(source)
    assert source.size_hint() == len(frames) == 7
    assert [frame.index for frame in frames] == [frame.source_index for frame in frames] == list(range(7))
    assert [frame.timestamp_s for frame in frames] == [i / 10 for i in range(7)]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, again, strict=True))
    assert frames[0].image.shape == (27, 36, 3)
    assert not np.array_equal(frames[0].image, frames[1].image)
    assert source.intrinsics[0, 2] == pytest.approx(3 * small_room.intrinsics[0, 2])


def test_the_identity_tells_sources_apart(small_room, room):
    whole = SimulatedSource(small_room).identity()
    assert whole == SimulatedSource(small_room).identity()
    assert whole != SimulatedSource(small_room, frames=7).identity()
    assert whole != SimulatedSource(room, frames=40).identity()
    assert whole != SimulatedSource(small_room, magnification=2).identity()


@pytest.mark.parametrize("frames", [0, 41])
def test_a_source_is_not_longer_than_its_world(small_room, frames):
    with pytest.raises(ValueError, match="between 1 and 40"):
        SimulatedSource(small_room, frames=frames)
