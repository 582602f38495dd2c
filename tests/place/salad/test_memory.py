"""What SALAD takes on its device."""

from __future__ import annotations

import pytest
import torch

from da3stream.place.base import TakesDeviceMemory
from da3stream.place.salad.descriptor import SaladDescriptor
from da3stream.place.salad.memory import IMAGES_ON_CPU, IMAGES_ON_GPU, describing_bytes
from da3stream.place.salad.network import SaladNetwork

MEBI = 2**20


def test_weights_are_counted_as_they_are_loaded(salad: SaladNetwork) -> None:
    weights = sum(weight.nbytes for weight in salad.parameters())
    assert weights == pytest.approx(335.6 * MEBI, rel=1e-3)
    assert weights < describing_bytes(1, torch.float32) < 1.1 * weights
    assert weights / 2 < describing_bytes(1, torch.bfloat16) < 0.6 * weights


def test_more_images_at_a_time_take_more() -> None:
    one, two, four = (describing_bytes(images, torch.float32) for images in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=1e-2)
    tokens_bytes = 1 * 577 * 768 * 4
    assert two - one > 5 * tokens_bytes


def test_on_a_gpu_it_is_a_small_part_of_twelve_gigabytes() -> None:
    assert describing_bytes() == describing_bytes(IMAGES_ON_GPU, torch.bfloat16) < 300 * MEBI


def test_the_descriptor_says_what_it_takes(salad: SaladNetwork) -> None:
    descriptor = SaladDescriptor(salad)
    assert isinstance(descriptor, TakesDeviceMemory)
    assert descriptor.device_bytes() == describing_bytes(IMAGES_ON_CPU, torch.float32)
