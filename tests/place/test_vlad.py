"""VLAD descriptors and their vocabulary."""

from __future__ import annotations

from pathlib import Path

import cv2
import faiss
import numpy as np
import pytest

from da3stream.errors import EstimationError
from da3stream.imaging import resize_for_processing
from da3stream.place.base import PlaceDescriptor
from da3stream.place.vlad import VladDescriptor, aggregate
from da3stream.place.vocabulary import VladVocabulary


def clusters(frames: int = 6, seed: int = 0) -> list[np.ndarray]:
    """Features of some frames around eight points."""
    rng = np.random.default_rng(seed)
    points = rng.integers(20, 120, (8, 128))
    return [
        np.clip(points[rng.integers(0, 8, 50)] + rng.integers(-4, 5, (50, 128)), 0, 255).astype(np.uint8)
        for _ in range(frames)
    ]


def picture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)


def test_a_vocabulary_finds_the_clusters() -> None:
    features = clusters()
    vocabulary = VladVocabulary.train(features, words=8)
    pool = np.concatenate(features).astype(np.float32)
    distances = np.linalg.norm(pool[:, None] - vocabulary.centres, axis=-1).min(axis=1)
    assert np.median(distances) < 40  # noise alone has 29


def test_equal_features_give_an_equal_vocabulary_on_any_number_of_threads() -> None:
    threads = faiss.omp_get_max_threads()
    try:
        found = []
        for count in (1, 2):
            faiss.omp_set_num_threads(count)
            found.append(VladVocabulary.train(clusters(), words=8, seed=3).centres)
    finally:
        faiss.omp_set_num_threads(threads)
    assert np.array_equal(*found)
    assert not np.array_equal(found[0], VladVocabulary.train(clusters(), words=8, seed=4).centres)


def test_too_few_features_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(EstimationError, match=r"got 3 features in 1 frames; expected at least 64.*--no-loop"):
        VladVocabulary.train([np.zeros((3, 128), np.uint8)])


def test_wrong_centres_are_refused() -> None:
    with pytest.raises(ValueError, match="centres must be"):
        VladVocabulary(centres=np.zeros((4, 64), np.float32))


def test_aggregation_by_hand() -> None:
    """Two words; residuals (0, 3) + (0, 1) and (4, 0): unit length each, roots, unit length together."""
    centres = np.array([[0, 0], [10, 0]], np.float32)
    found = aggregate(np.array([[0, 3], [0, 1], [14, 0]], np.uint8), centres)
    assert found == pytest.approx(np.array([0, 1, 1, 0]) / np.sqrt(2))


def test_repeated_texture_counts_once() -> None:
    """Intra-normalisation: a hundred equal features weigh as much as one."""
    centres = np.array([[0, 0], [100, 0]], np.float32)
    once = aggregate(np.array([[3, 4], [110, 5]], np.uint8), centres)
    often = aggregate(np.array([[3, 4]] * 100 + [[110, 5]], np.uint8), centres)
    assert often == pytest.approx(once, abs=1e-5)


def test_descriptors_keep_the_contract_and_know_the_picture_again() -> None:
    pictures = np.stack([picture(seed) for seed in range(6)])
    vocabulary = VladVocabulary.train([VladDescriptor.local_features(image) for image in pictures], words=16)
    descriptor = VladDescriptor(vocabulary)
    assert isinstance(descriptor, PlaceDescriptor)
    described = descriptor.describe(pictures, indices=np.arange(6))
    assert described.shape == (6, descriptor.dim) == (6, 16 * 128)
    assert described.dtype == np.float32
    assert np.linalg.norm(described, axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    shifted = np.roll(pictures, 7, axis=2)
    again = descriptor.describe(shifted, indices=np.arange(6, 12))
    assert (again @ described.T).argmax(axis=1).tolist() == list(range(6))
    alone = descriptor.describe(pictures[3:4], indices=np.array([3]))
    assert np.array_equal(alone[0], described[3])


def test_blank_images_are_like_no_other_not_even_each_other() -> None:
    vocabulary = VladVocabulary(centres=np.eye(16, 128, dtype=np.float32))
    blank = np.full((3, 96, 128, 3), 80, np.uint8)
    described = VladDescriptor(vocabulary).describe(blank, indices=np.array([4, 5, 90]))
    assert np.linalg.norm(described, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert np.abs(described @ described.T - np.eye(3)).max() < 0.1


@pytest.mark.data
def test_a_disturbed_street_is_recognised(shared: Path) -> None:
    paths = sorted((shared / "data" / "kitti_seq1" / "image_l").glob("*.png"))[::3]
    images = [
        resize_for_processing(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), 504) for path in paths
    ]
    disturbed = [
        np.clip(cv2.GaussianBlur(image[4:-20, 40:-10], (0, 0), 0.8) * 0.7 + 10, 0, 255).astype(np.uint8)
        for image in images
    ]
    features = [VladDescriptor.local_features(image) for image in images]
    descriptor = VladDescriptor(VladVocabulary.train(features))
    there = descriptor.describe_features(features, indices=np.arange(len(images)))
    back = descriptor.describe_features(
        [VladDescriptor.local_features(image) for image in disturbed], indices=np.arange(len(images))
    )
    assert (back @ there.T).argmax(axis=1).tolist() == list(range(len(images)))
