"""Features are shared between stages, in bounded memory."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from da3stream import features
from da3stream.features import detect_features, extract_features


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """(6, 72, 96, 3), none of which was seen before."""
    monkeypatch.setattr(features, "_recent", {})
    noise = np.random.default_rng(0).integers(0, 256, (6, 12, 16, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (96, 72), interpolation=cv2.INTER_CUBIC) for image in noise])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every image that is really looked at."""
    detect, seen = features.detect_features, []

    def counted(image: np.ndarray, count: int) -> features.Features:
        seen.append(len(seen))
        return detect(image, count)

    monkeypatch.setattr(features, "detect_features", counted)
    return seen


def test_equal_images_are_looked_at_once(pictures: np.ndarray, calls: list[int]) -> None:
    first = [extract_features(image) for image in pictures]
    again = [extract_features(image) for image in pictures.copy()]
    assert len(calls) == len(pictures)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.descriptors, other.descriptors)


def test_equal_bytes_of_another_shape_are_another_image(pictures: np.ndarray, calls: list[int]) -> None:
    extract_features(pictures[0])
    turned = extract_features(pictures[0].reshape(96, 72, 3))
    assert len(calls) == 2
    directly = detect_features(pictures[0].reshape(96, 72, 3), features.MAX_FEATURES)
    np.testing.assert_array_equal(turned.points, directly.points)


def test_the_oldest_are_forgotten(
    pictures: np.ndarray, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "REMEMBERED_IMAGES", 4)
    for image in pictures:
        extract_features(image)
    assert len(features._recent) == 4
    extract_features(pictures[2])
    assert len(calls) == 6
    extract_features(pictures[0])
    assert len(calls) == 7
