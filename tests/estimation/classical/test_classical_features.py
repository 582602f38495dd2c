"""Features, and which of them match."""

from __future__ import annotations

import numpy as np
import pytest

from da3stream.estimation.classical.features import MAX_FEATURES, Features, extract_features, match_features


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    """Smooth random blobs, (200, 260, 3)."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (50, 65)).astype(np.uint8)
    return np.repeat(np.kron(coarse, np.ones((4, 4), np.uint8))[:, :, None], 3, axis=2)


def test_shifted_image_matches_by_the_shift(texture):
    first, second = extract_features(texture[:180, :240]), extract_features(texture[6:186, 12:252])
    matches = match_features(first, second)
    shift = first.points[matches[:, 0]] - second.points[matches[:, 1]]
    right = np.abs(shift - [12.0, 6.0]).max(axis=1) < 0.5
    assert len(matches) > 100
    assert right.mean() > 0.9


def test_pixel_centres_are_at_one_half():
    """A symmetric blob around the centre of pixel (50, 30) lies at (50.5, 30.5)."""
    y, x = np.mgrid[0:64, 0:101]
    blob = 220.0 * np.exp(-((x - 50) ** 2 + (y - 30) ** 2) / (2 * 4.0**2))
    image = np.repeat(blob.astype(np.uint8)[:, :, None], 3, axis=2)
    points = extract_features(image).points
    assert np.abs(points - [50.5, 30.5]).max(axis=1).min() < 0.1


def test_number_of_features_is_bounded(texture):
    assert 100 < len(extract_features(texture).points) < 1.1 * MAX_FEATURES


@pytest.mark.parametrize("value", [0, 255])
def test_plain_image_has_no_features(value, texture):
    plain = extract_features(np.full((80, 100, 3), value, np.uint8))
    assert len(plain.points) == 0
    assert match_features(plain, extract_features(texture)).shape == (0, 2)
    assert match_features(extract_features(texture), plain).shape == (0, 2)


def test_ambiguous_features_do_not_match():
    """Two equal descriptors in the second image: the ratio test must refuse both."""
    rng = np.random.default_rng(0)
    descriptors = rng.integers(0, 90, (3, 128)).astype(np.uint8)
    points = np.zeros((3, 2), np.float32)
    twin = np.concatenate([descriptors, descriptors[:1]])
    matches = match_features(
        Features(points=points, descriptors=descriptors),
        Features(points=np.zeros((4, 2), np.float32), descriptors=twin),
    )
    assert matches.tolist() == [[1, 1], [2, 2]]


def test_matching_is_exact_arithmetic(texture):
    """Whatever BLAS does: the float32 distances are those of integers."""
    a, b = extract_features(texture[:180, :240]), extract_features(texture[6:186, 12:252])
    wide_a, wide_b = a.descriptors.astype(np.int64), b.descriptors.astype(np.int64)
    distances = (wide_a**2).sum(1)[:, None] + (wide_b**2).sum(1) - 2 * wide_a @ wide_b.T
    rows = np.arange(len(distances))
    nearest = distances.argmin(1)
    second = np.partition(distances, 1, axis=1)[:, 1]
    kept = (distances.argmin(0)[nearest] == rows) & (distances[rows, nearest] < np.float32(0.64) * second)
    np.testing.assert_array_equal(match_features(a, b)[:, 0], np.flatnonzero(kept))
