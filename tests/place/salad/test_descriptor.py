"""SALAD as the pipeline uses it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from da3stream.errors import DeviceMemoryError, EstimationError
from da3stream.place.base import PlaceDescriptor
from da3stream.place.salad.descriptor import SaladDescriptor, resize_to_square
from da3stream.place.salad.network import SaladNetwork
from tests.estimation.da3.seeded_weights import normalise, seeded_images

FORMS = [((280, 504), 0), ((336, 336), 0), ((200, 150), 1), ((600, 97), 1)]


@pytest.fixture(scope="module")
def descriptor(salad: SaladNetwork) -> SaladDescriptor:
    return SaladDescriptor(salad)


@pytest.mark.parametrize(("size", "grey_levels"), FORMS)
def test_images_are_resized_as_pillow_does(size: tuple[int, int], grey_levels: int) -> None:
    image = pytest.importorskip("PIL.Image")
    images = seeded_images(5, 2, *size)
    ours = resize_to_square(images).permute(0, 2, 3, 1).numpy().astype(int)
    for one, found in zip(images, ours, strict=True):
        expected = np.asarray(image.fromarray(one).resize((336, 336), image.Resampling.BILINEAR)).astype(int)
        assert np.abs(found - expected).max() <= grey_levels


def test_shrinking_averages_and_keeps_the_sides_in_place() -> None:
    halves = np.zeros((1, 672, 1344, 3), np.uint8)
    halves[:, ::2] = 200
    halves[:, :, 672:, 2] = 90
    resized = resize_to_square(halves)[0]
    assert (resized[0, 4:-4] - 100).abs().max() <= 1
    assert (resized[2, :, 172:] == 90).all()


def test_it_describes(descriptor: SaladDescriptor, salad: SaladNetwork) -> None:
    assert isinstance(descriptor, PlaceDescriptor)
    images = seeded_images(2, 2, 120, 200)
    found = descriptor.describe(images, indices=np.arange(2))
    assert found.shape == (2, descriptor.dim) == (2, 8448)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    square = resize_to_square(images).permute(0, 2, 3, 1).numpy()
    with torch.inference_mode():
        expected = salad(normalise(square)[0, 1:2])
    np.testing.assert_allclose(found[1:2], expected.numpy(), rtol=1e-3, atol=1e-6)


def test_no_images_have_no_descriptors(descriptor: SaladDescriptor) -> None:
    none = np.zeros((0, 28, 42, 3), np.uint8)
    assert descriptor.describe(none, indices=np.arange(0)).shape == (0, 8448)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 28, 42, 3), np.float32),
        np.zeros((28, 42, 3), np.uint8),
        np.zeros((1, 0, 42, 3), np.uint8),
    ],
)
def test_images_of_another_form_are_refused(descriptor: SaladDescriptor, images: NDArray[np.uint8]) -> None:
    with pytest.raises(EstimationError, match=r"expected uint8 \(N, H, W, 3\)"):
        descriptor.describe(images, indices=np.arange(len(images)))


def test_a_descriptor_that_is_not_finite_is_an_error(
    descriptor: SaladDescriptor, salad: SaladNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salad.aggregator.dust_bin, "data", torch.tensor(float("nan")))
    with pytest.raises(EstimationError, match="no finite descriptor; got frame 7, 1 in all"):
        descriptor.describe(np.zeros((1, 28, 42, 3), np.uint8), indices=np.array([7]))


@pytest.mark.slow
def test_full_memory_halves_the_images_at_a_time_and_goes_on(
    salad: SaladNetwork, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forward, sizes = SaladNetwork.forward, []

    def with_room_for_one(self: SaladNetwork, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    images = seeded_images(2, 3, 120, 200)
    expected = SaladDescriptor(salad).describe(images, indices=np.arange(3))
    descriptor = SaladDescriptor(salad)
    monkeypatch.setattr(SaladNetwork, "forward", with_room_for_one)
    found = descriptor.describe(images, indices=np.arange(3))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert sizes == [2, 1, 1, 1]
    assert "SALAD now describes 1 image(s) at a time" in caplog.text
    descriptor.describe(images[:2], indices=np.arange(2))
    assert sizes[4:] == [1, 1], "it stays so"


def test_memory_that_holds_no_image_is_an_error_that_shortens_no_chunks(
    salad: SaladNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: SaladNetwork, images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(SaladNetwork, "forward", full)
    with pytest.raises(
        EstimationError, match=r"too small for SALAD.*CUDA out of memory.*--place vlad"
    ) as raised:
        SaladDescriptor(salad).describe(np.zeros((2, 28, 42, 3), np.uint8), indices=np.arange(2))
    assert not isinstance(raised.value, DeviceMemoryError)


@pytest.mark.gpu
def test_half_precision_on_a_gpu_is_near(descriptor: SaladDescriptor) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    images = seeded_images(2, 20, 120, 200)
    on_cpu = descriptor.describe(images[:4], indices=np.arange(4))
    on_gpu = SaladDescriptor.load("seeded:0", device="cuda").describe(images, indices=np.arange(20))
    assert (on_cpu * on_gpu[:4]).sum(1).min() > 0.999
