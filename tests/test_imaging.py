"""Parity with DA3's preprocessing ("upper_bound_resize").

`fixtures/da3_upper_bound_resize.npz` was recorded from the reference implementation: small images with their
results under OpenCV 5.0, and a table of sizes. Cubic interpolation differs by one level between OpenCV 4.10
and 5.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from da3stream.geometry.camera import rescale_intrinsics
from da3stream.imaging import PATCH_SIZE_PX, processing_size, resize_for_processing

REFERENCE = np.load(Path(__file__).parent / "fixtures" / "da3_upper_bound_resize.npz")


@pytest.mark.parametrize("case", REFERENCE["cases"].tolist())
def test_pixels_are_those_of_the_reference(case: str) -> None:
    processed = resize_for_processing(REFERENCE[f"{case}.image"], int(REFERENCE[f"{case}.resolution"]))
    expected = REFERENCE[f"{case}.processed"]
    assert processed.shape == expected.shape
    assert np.abs(processed.astype(int) - expected).max() <= 1
    assert (processed != expected).mean() < 0.05


@pytest.mark.parametrize("case", REFERENCE["cases"].tolist())
def test_intrinsics_are_those_of_the_reference(case: str) -> None:
    height, width = REFERENCE[f"{case}.image"].shape[:2]
    size = processing_size(width, height, int(REFERENCE[f"{case}.resolution"]))
    rescaled = rescale_intrinsics(REFERENCE[f"{case}.intrinsics"], (width, height), size)
    np.testing.assert_allclose(rescaled, REFERENCE[f"{case}.processed_intrinsics"], rtol=1e-5)


def test_sizes_and_intrinsics_of_the_reference_table() -> None:
    assert len(REFERENCE["sizes"]) > 30
    for row, before, after in zip(
        REFERENCE["sizes"].tolist(),
        REFERENCE["sizes.intrinsics"],
        REFERENCE["sizes.processed_intrinsics"],
        strict=True,
    ):
        width, height, resolution, *expected = row
        size = processing_size(width, height, resolution)
        assert list(size) == expected, row
        np.testing.assert_allclose(rescale_intrinsics(before, (width, height), size), after, rtol=1e-5)


def test_halves_round_to_even_before_the_patches() -> None:
    # 146.5 becomes 146 and then 140; rounding halves upwards would give 147 and then 154.
    assert processing_size(1008, 293, 504) == (504, 140)
    # 49 = 3.5 * 14 lies in the middle: upwards.
    assert processing_size(98, 49, 98) == (98, 56)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(28, 1500))
def test_sizes_are_multiples_of_the_patch_and_symmetric(width: int, height: int, resolution: int) -> None:
    size = processing_size(width, height, resolution)
    assert all(side > 0 and side % PATCH_SIZE_PX == 0 for side in size)
    assert abs(max(size) - resolution) <= PATCH_SIZE_PX / 2
    assert processing_size(height, width, resolution) == size[::-1]


def test_an_image_of_the_right_size_is_not_copied() -> None:
    image = np.zeros((56, 98, 3), np.uint8)
    assert resize_for_processing(image, 98) is image


def test_grey_images_and_large_steps() -> None:
    image = np.full((2160, 3840), 77, np.uint8)
    processed = resize_for_processing(image, 504)
    assert processed.shape == (280, 504)
    assert (processed == 77).all()


def test_the_argument_is_not_written_to() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    before = image.copy()
    resize_for_processing(image, 504)
    np.testing.assert_array_equal(image, before)
