"""Features of single frames: computed once, never taken for those of another frame, bit for bit the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.feature_cache import FeatureCache, frame_keys
from da3stream.estimation.da3.preprocessing import to_network_input
from tests.estimation.da3.networks import executing
from tests.estimation.da3.seeded_weights import seeded_images
from tests.estimation.da3.small_networks import small_nested

HEIGHT, WIDTH = 28, 42
IMAGES = seeded_images(5, 9, HEIGHT, WIDTH)


class Sums:
    """Two features that tell which image they are of; remembers which images it was given."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.rows: list[weakref.ref[Any]] = []

    def per_view(self, images: Tensor) -> dict[str, Tensor]:
        sums = images.double().sum(dim=(1, 2, 3))
        self.seen.extend(sums.tolist())
        result = {"sum": sums[:, None], "shape": torch.tensor([images.shape[2:]] * len(images))}
        self.rows.extend(weakref.ref(rows.untyped_storage()) for rows in result.values())
        return result


def features(cache: FeatureCache, frames: list[int], images: np.ndarray = IMAGES) -> dict[str, Tensor]:
    """Of the chunk that these frames form."""
    pixels = to_network_input(images[frames])[0]
    return cache.features(frame_keys(images[frames], np.array(frames)), pixels)


def sums_of(frames: list[int], images: np.ndarray = IMAGES) -> list[float]:
    every = to_network_input(images)[0].double().sum(dim=(1, 2, 3))
    return every[frames].tolist()


@contextmanager
def threads(count: int) -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


# What is known --------------------------------------------------------------------------------------------


def test_a_frame_of_the_last_chunk_is_not_computed_again() -> None:
    network = Sums()
    cache = FeatureCache(network.per_view)
    for frames, new in (
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([2, 3, 4, 5], [4, 5]),
        ([7, 5, 0, 4], [7, 0]),  # in any order, with gaps
        ([4, 0, 5, 7], []),
    ):
        network.seen.clear()
        found = features(cache, frames)
        assert found["sum"][:, 0].tolist() == sums_of(frames)
        assert found["shape"].tolist() == [[HEIGHT, WIDTH]] * len(frames)
        assert network.seen == sums_of(new)


def test_what_is_older_than_the_last_chunk_is_forgotten() -> None:
    network = Sums()
    cache = FeatureCache(network.per_view)
    for frames in ([0, 1, 2, 3], [2, 3, 4], [4, 5], [6, 7, 8]):
        features(cache, frames)
        gc.collect()
        assert sum(row() is not None for row in network.rows) == 2 * len(frames)
    network.seen.clear()
    features(cache, [0, 8])
    assert network.seen == sums_of([0])


def test_other_pixels_under_a_known_index_are_another_frame() -> None:
    network = Sums()
    cache = FeatureCache(network.per_view)
    features(cache, [0, 1, 2])
    other = IMAGES.copy()
    other[1, 5, 6, 0] ^= 1
    network.seen.clear()
    assert features(cache, [0, 1, 2], other)["sum"][:, 0].tolist() == sums_of([0, 1, 2], other)
    assert network.seen == sums_of([1], other)


def test_the_same_bytes_in_another_shape_are_another_frame() -> None:
    black = np.zeros((1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    cache = FeatureCache(Sums().per_view)
    assert features(cache, [0], black)["shape"].tolist() == [[HEIGHT, WIDTH]]
    turned = black.reshape(1, WIDTH, HEIGHT, 3)
    assert features(cache, [0], turned)["shape"].tolist() == [[WIDTH, HEIGHT]]


def test_the_same_image_under_another_index_is_computed_again() -> None:
    network = Sums()
    cache = FeatureCache(network.per_view)
    pixels = to_network_input(IMAGES[:1])[0]
    for index in (0, 1):
        cache.features(frame_keys(IMAGES[:1], np.array([index])), pixels)
    assert len(network.seen) == 2


def test_keys_do_not_depend_on_how_an_image_lies_in_memory() -> None:
    mirrored = IMAGES[:, :, ::-1]
    assert frame_keys(mirrored, np.arange(9)) == frame_keys(mirrored.copy(), np.arange(9))


def test_a_chunk_that_failed_half_way_goes_on_where_it_stopped() -> None:
    network = Sums()
    broken = True

    def per_view(images: Tensor) -> dict[str, Tensor]:
        if broken and len(network.seen) == 2:
            raise torch.OutOfMemoryError("full")
        return network.per_view(images)

    cache = FeatureCache(per_view)
    with pytest.raises(torch.OutOfMemoryError):
        features(cache, [0, 1, 2, 3])
    broken = False
    assert features(cache, [0, 1, 2, 3])["sum"][:, 0].tolist() == sums_of([0, 1, 2, 3])
    assert network.seen == sums_of([0, 1, 2, 3])


def test_a_forward_pass_may_change_what_it_is_given() -> None:
    cache = FeatureCache(Sums().per_view)
    features(cache, [0, 1])["sum"].zero_()
    assert features(cache, [0, 1])["sum"][:, 0].tolist() == sums_of([0, 1])


# Real networks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("nested", [False, True])
def test_features_are_the_same_bits_with_and_without_a_cache(
    tiny: AnyViewNetwork, nested: bool, count: int
) -> None:
    network: Any = small_nested() if nested else tiny
    cache = FeatureCache(network.per_view)
    with torch.inference_mode(), threads(count):
        for frames in ([0, 1, 2, 3, 4], [3, 4, 5, 6], [6, 3, 8]):
            expected = network.per_view(to_network_input(IMAGES[frames])[0])
            found = features(cache, frames)
            assert found.keys() == expected.keys()
            for name, values in expected.items():
                assert torch.equal(found[name], values), name
                assert found[name].is_contiguous()


@pytest.mark.parametrize("views", [2, 4])
def test_with_several_views_at_a_time_an_empty_cache_gives_what_a_filled_one_gives(
    tiny: AnyViewNetwork, views: int
) -> None:
    """As in a run that was killed and goes on. Without a cache, rounding may differ."""
    filled = FeatureCache(tiny.per_view)
    with torch.inference_mode(), threads(2), executing(tiny, views=views):
        features(filled, [0, 1, 2, 3, 4])
        found = features(filled, [3, 4, 5, 6, 7])
        resumed = features(FeatureCache(tiny.per_view), [3, 4, 5, 6, 7])
        plain = tiny.per_view(to_network_input(IMAGES[3:8])[0])
    for name, values in found.items():
        assert torch.equal(resumed[name], values), name
        torch.testing.assert_close(values, plain[name], rtol=1e-5, atol=1e-5)
