"""Bytes of images into the network's input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from da3stream.errors import EstimationError
from da3stream.estimation.da3.preprocessing import MEAN, STANDARD_DEVIATION, to_network_input
from da3stream.imaging import resize_for_processing
from tests.estimation.da3.seeded_weights import normalise

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 42, 3), dtype=np.uint8)


def test_shape_type_and_values() -> None:
    pixels = to_network_input(IMAGES)
    assert pixels.shape == (1, 3, 3, 28, 42)
    assert (pixels.dtype, pixels.is_contiguous()) == (torch.float32, True)
    assert torch.equal(pixels, normalise(IMAGES))


def test_the_images_are_left_as_they_were() -> None:
    images = IMAGES[:, ::-1, ::-1]  # not contiguous
    images.flags.writeable = False
    before = images.copy()
    assert torch.equal(to_network_input(images), normalise(before))
    assert np.array_equal(images, before)


@pytest.mark.data
def test_pixels_are_those_of_the_published_preprocessing(shared: Path) -> None:
    """From their own bytes exactly; from the image within one level, by which versions of OpenCV differ."""
    with np.load(shared / "da3" / "fixtures" / "preprocess.npz") as golden:
        cases = json.loads(str(golden["meta"]))["cases"]
        arrays = {name: (golden[f"{name}.in"], golden[f"{name}.out"]) for name in cases}
    assert len(cases) == 12
    for name, case in cases.items():
        image, expected = arrays[name]
        scaled = expected.transpose(1, 2, 0) * np.float32(STANDARD_DEVIATION) + np.float32(MEAN)
        levels = np.round(scaled * 255).astype(np.uint8)
        assert np.abs(to_network_input(levels[None])[0, 0].numpy() - expected).max() <= 1e-6, name
        if case["method"] == "upper_bound_resize":
            ours = resize_for_processing(image, case["res"])
            assert np.abs(ours.astype(int) - levels).max() <= 1, name


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (np.zeros((2, 28, 43, 3), np.uint8), "43 x 28 pixels.*multiples of 14"),
        (np.zeros((2, 20, 28, 3), np.uint8), "28 x 20 pixels.*multiples of 14"),
        (np.zeros((28, 28, 3), np.uint8), r"wrong form.*uint8 \(28, 28, 3\)"),
        (np.zeros((1, 28, 28, 4), np.uint8), "wrong form"),
        (np.zeros((0, 28, 28, 3), np.uint8), "wrong form"),
        (np.zeros((1, 28, 28, 3), np.float32), "wrong form.*float32"),
    ],
)
def test_images_that_do_not_fit_are_errors(images: np.ndarray, complaint: str) -> None:
    with pytest.raises(EstimationError, match=complaint):
        to_network_input(images)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_the_gpu_gives_the_same() -> None:
    difference = to_network_input(IMAGES, "cuda").cpu() - normalise(IMAGES)
    assert float(difference.abs().max()) <= 1e-6
