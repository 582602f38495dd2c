"""The estimator as the pipeline sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import da3stream
from da3stream.errors import EstimationError
from da3stream.estimation.base import GeometryEstimator
from da3stream.estimation.classical import ClassicalEstimator
from da3stream.estimation.classical.matching import REMEMBERED_CHUNKS, Calibration, ChunkMatcher
from da3stream.estimation.classical.view_graph import OFFSETS
from da3stream.estimation.classical.wire import Message
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.geometry.registration import umeyama
from da3stream.geometry.rigid3 import invert, to_4x4
from da3stream.imaging import resize_for_processing
from da3stream.scene import KnownCameras

KITTI_CAMERA = np.array([[707.0912, 0.0, 602.3873], [0.0, 707.0912, 183.6104], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def estimator():
    with ClassicalEstimator() as made:
        yield made


@pytest.fixture(scope="module")
def drifting_texture() -> np.ndarray:
    """(8, 168, 224, 3): a window that slides over one random texture."""
    rng = np.random.default_rng(3)
    wide = cv2.resize(
        rng.integers(0, 255, (60, 110), dtype=np.uint8), (440, 240), interpolation=cv2.INTER_CUBIC
    )
    views = [wide[10 : 10 + 168, 12 * i : 12 * i + 224] for i in range(8)]
    return np.repeat(np.stack(views)[..., None], 3, axis=3)


@pytest.fixture(scope="session")
def kitti(shared):
    """(51, 154, 504, 3) images, (3, 3) intrinsics and (51, 3) camera centres in metres."""
    folder = shared / "data" / "kitti_seq1"
    images = [cv2.imread(str(path))[..., ::-1] for path in sorted((folder / "image_l").iterdir())]
    small = np.stack([resize_for_processing(np.ascontiguousarray(image), 504) for image in images])
    size = (images[0].shape[1], images[0].shape[0])
    matrix = rescale_intrinsics(KITTI_CAMERA, size, (small.shape[2], small.shape[1]))
    return small, matrix, np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)[:, :, 3]


def ate_share(cam_from_submap, truth):
    """Root mean square error of the centres after a Sim(3) alignment, as a share of the path."""
    centres = invert(to_4x4(cam_from_submap))[:, :3, 3]
    error = np.linalg.norm(umeyama(centres, truth).apply(centres) - truth, axis=1)
    return np.sqrt((error**2).mean()) / np.linalg.norm(np.diff(truth, axis=0), axis=1).sum()


def check_contract(prediction, images):
    n, height, width = images.shape[:3]
    assert prediction.depth.shape == prediction.confidence.shape
    assert prediction.depth.shape[0] == n
    assert prediction.depth.shape[2] / prediction.depth.shape[1] == pytest.approx(width / height, rel=0.03)
    assert np.isfinite(prediction.cam_from_submap).all()
    assert np.isfinite(prediction.depth).all()
    assert (prediction.confidence >= 0).all()
    assert (prediction.depth[prediction.confidence > 0] > 0).all()
    np.testing.assert_array_equal(prediction.cam_from_submap[0], np.eye(4)[:3])
    rotations = prediction.cam_from_submap[:, :, :3]
    np.testing.assert_allclose(
        rotations @ np.swapaxes(rotations, 1, 2), np.tile(np.eye(3), (n, 1, 1)), atol=1e-9
    )


def test_it_is_a_geometry_estimator(estimator):
    assert isinstance(estimator, GeometryEstimator)
    assert (estimator.name, estimator.is_metric) == ("classical", False)


def test_single_image_says_what_is_needed(estimator):
    with pytest.raises(EstimationError, match="at least 2 frames"):
        estimator.estimate(np.zeros((1, 56, 56, 3), np.uint8), indices=np.arange(1))


@pytest.mark.parametrize(
    ("images", "indices"),
    [
        (np.zeros((3, 56, 56), np.uint8), np.arange(3)),
        (np.zeros((3, 56, 56, 3), np.float32), np.arange(3)),
        (np.zeros((3, 56, 56, 3), np.uint8), np.arange(4)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(estimator, images, indices):
    with pytest.raises(EstimationError, match="got"):
        estimator.estimate(images, indices=indices)


def test_intrinsics_of_other_images_are_refused(estimator):
    known = KnownCameras(intrinsics=np.tile(np.eye(3), (2, 1, 1)))
    with pytest.raises(EstimationError, match="intrinsics"):
        estimator.estimate(np.zeros((3, 56, 56, 3), np.uint8), indices=np.arange(3), known_cameras=known)


@pytest.mark.parametrize("n", [2, 5])
def test_black_frames_give_a_flat_prediction(estimator, n):
    images = np.zeros((n, 168, 224, 3), np.uint8)
    prediction = estimator.estimate(images, indices=np.arange(n))
    check_contract(prediction, images)
    assert ((prediction.confidence > 0) & (prediction.confidence < 0.1)).all()
    assert len(np.unique(prediction.depth)) == 1
    assert prediction.warnings
    assert prediction.settled_intrinsics is None


def test_standing_still_gives_a_flat_prediction(estimator, drifting_texture):
    images = np.repeat(drifting_texture[:1], 6, axis=0)
    prediction = estimator.estimate(images, indices=np.arange(6))
    check_contract(prediction, images)
    assert "stands still" in prediction.warnings[0]
    assert not prediction.cam_from_submap[:, :, 3].any()


def test_two_frames_do_not_fail(estimator, drifting_texture):
    check_contract(estimator.estimate(drifting_texture[:2], indices=np.arange(2)), drifting_texture[:2])


def test_arguments_are_not_written(estimator, drifting_texture):
    images, indices = drifting_texture[:3].copy(), np.array([4, 5, 6])
    known = KnownCameras(intrinsics=np.tile(np.diag([200.0, 200.0, 1.0]), (3, 1, 1)))
    estimator.estimate(images, indices=indices, known_cameras=known)
    np.testing.assert_array_equal(images, drifting_texture[:3])
    np.testing.assert_array_equal(indices, [4, 5, 6])
    np.testing.assert_array_equal(known.intrinsics, np.tile(np.diag([200.0, 200.0, 1.0]), (3, 1, 1)))


def _calibration(images):
    matrix = np.array([[200.0, 0.0, 112.0], [0.0, 200.0, 84.0], [0.0, 0.0, 1.0]])
    return Calibration(intrinsics=np.tile(matrix, (len(images), 1, 1)), size=(224, 168), known=True)


def _same_graph(one, other):
    a, b = one.graph, other.graph
    assert len(a.pairs) > 0
    np.testing.assert_array_equal(a.pairs, b.pairs)
    for ours, theirs in zip(a.two_views, b.two_views, strict=True):
        np.testing.assert_array_equal(ours.matches, theirs.matches)
        np.testing.assert_array_equal(ours.fundamental, theirs.fundamental)


def test_memory_changes_no_result(pool, drifting_texture):
    warm, cold = ChunkMatcher(pool, seed=0), ChunkMatcher(pool, seed=0)
    warm.match(drifting_texture[:5], np.arange(5), _calibration(drifting_texture[:5]))
    later = drifting_texture[2:8]
    _same_graph(
        warm.match(later, np.arange(2, 8), _calibration(later)),
        cold.match(later, np.arange(2, 8), _calibration(later)),
    )


def test_same_index_with_other_pixels_is_another_image(pool, drifting_texture):
    matcher = ChunkMatcher(pool, seed=0)
    calibration = _calibration(drifting_texture[:4])
    first = matcher.match(drifting_texture[:4], np.arange(4), calibration)
    mirrored = np.ascontiguousarray(drifting_texture[:4, :, ::-1])
    second = matcher.match(mirrored, np.arange(4), calibration)
    assert not np.array_equal(first.graph.keypoints[0], second.graph.keypoints[0])
    _same_graph(second, ChunkMatcher(pool, seed=0).match(mirrored, np.arange(4), calibration))


def test_no_features_where_images_are_to_be_ignored(pool, drifting_texture):
    images = drifting_texture[:4]
    matcher, calibration = ChunkMatcher(pool, seed=0), _calibration(images)
    everything = matcher.match(images, np.arange(4), calibration)
    ignored = np.zeros(images.shape[:3], dtype=bool)
    ignored[1, :, : images.shape[2] // 2] = True
    masked = matcher.match(images, np.arange(4), calibration, ignored)
    left = everything.graph.keypoints[1][:, 0] < images.shape[2] // 2
    assert 0 < left.sum() < len(left)
    np.testing.assert_array_equal(masked.graph.keypoints[1], everything.graph.keypoints[1][~left])
    np.testing.assert_array_equal(masked.graph.keypoints[0], everything.graph.keypoints[0])
    _same_graph(masked, ChunkMatcher(pool, seed=0).match(images, np.arange(4), calibration, ignored))


def test_masks_of_another_size_are_an_error(drifting_texture):
    known = KnownCameras(ignored=np.zeros((4, 5, 6), dtype=bool))
    with ClassicalEstimator() as estimator, pytest.raises(EstimationError, match="masks do not fit"):
        estimator.estimate(drifting_texture[:4], indices=np.arange(4), known_cameras=known)


def test_other_intrinsics_verify_again(pool, drifting_texture):
    images = drifting_texture[:3]
    matcher, calibration = ChunkMatcher(pool, seed=0), _calibration(drifting_texture[:3])
    matcher.match(images, np.arange(3), calibration)
    unknown = Calibration(intrinsics=calibration.intrinsics, size=calibration.size, known=False)
    _same_graph(
        matcher.match(images, np.arange(3), unknown),
        ChunkMatcher(pool, seed=0).match(images, np.arange(3), unknown),
    )


class CrashingPool:
    """Loses every verification job that holds one pair of images."""

    def __init__(self, pool, pair):
        self.pool, self.pair = pool, list(pair)

    def ask(self, requests):
        return [
            Message(fields={"failed": "crash"})
            if self.pair in request.arrays["pairs"].tolist()
            else self.pool.ask([request])[0]
            for request in requests
        ]


def test_pair_that_crashes_verification_is_lost_alone(pool, drifting_texture):
    images = drifting_texture[:4]
    whole = ChunkMatcher(pool, seed=0).match(images, np.arange(7, 11), _calibration(images))
    hurt = ChunkMatcher(CrashingPool(pool, (1, 2)), seed=0).match(
        images, np.arange(7, 11), _calibration(images)
    )
    assert [1, 2] in whole.graph.pairs.tolist()
    expected = [pair for pair in whole.graph.pairs.tolist() if pair != [1, 2]]
    assert hurt.graph.pairs.tolist() == expected
    assert whole.warnings == ()
    assert len(hurt.warnings) == 1
    assert "8 and 9" in hurt.warnings[0]


def test_memory_is_bounded(pool, drifting_texture):
    matcher = ChunkMatcher(pool, seed=0)
    for start in range(0, 18, 3):
        images = np.roll(drifting_texture[:3], start, axis=2)
        matcher.match(images, np.arange(start, start + 3), _calibration(images))
    assert len(matcher._features) <= REMEMBERED_CHUNKS * 3
    assert len(matcher._two_views) <= REMEMBERED_CHUNKS * 3 * len(OFFSETS)


@pytest.mark.data
def test_ten_frames_of_a_drive(estimator, kitti):
    images, matrix, truth = kitti
    known = KnownCameras(intrinsics=np.tile(matrix, (10, 1, 1)))
    prediction = estimator.estimate(images[:10], indices=np.arange(10), known_cameras=known)
    check_contract(prediction, images[:10])
    assert ate_share(prediction.cam_from_submap, truth[:10]) < 0.01
    assert np.median(prediction.depth[prediction.confidence > 2]) == pytest.approx(1.0, abs=0.7)
    scaled = rescale_intrinsics(matrix, (504, 154), prediction.depth.shape[:0:-1])
    np.testing.assert_allclose(prediction.intrinsics, np.tile(scaled, (10, 1, 1)))


_RUN = """
import json, sys, zlib
import numpy as np
from da3stream.estimation.classical import ClassicalEstimator
with ClassicalEstimator() as estimator:
    images = np.load(sys.argv[1])["images"]
    found = estimator.estimate(images, indices=np.arange(len(images)))
print(json.dumps([zlib.crc32(np.ascontiguousarray(a)) for a in (found.cam_from_submap, found.depth,
found.confidence)]))
"""


@pytest.mark.data
@pytest.mark.slow
def test_fresh_processes_give_the_same_bits(kitti, tmp_path):
    np.savez(tmp_path / "images.npz", images=kitti[0][:10])
    root = Path(da3stream.__file__).resolve().parents[1]
    runs = [
        subprocess.run(
            [sys.executable, "-c", _RUN, str(tmp_path / "images.npz")],
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        )
        for _ in range(2)
    ]
    assert json.loads(runs[0].stdout) == json.loads(runs[1].stdout)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("start", [0, 27])
def test_chunks_of_a_drive(estimator, kitti, start, known):
    images, matrix, truth = kitti
    rows = np.arange(start, start + 24)
    cameras = KnownCameras(intrinsics=np.tile(matrix, (24, 1, 1))) if known else None
    prediction = estimator.estimate(images[rows], indices=rows, known_cameras=cameras)
    check_contract(prediction, images[rows])
    assert ate_share(prediction.cam_from_submap, truth[rows]) < 0.003
    assert prediction.settled_intrinsics is None
