"""Images in, depth and cameras out, at the sizes and in the order that users see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from da3stream.errors import EstimationError
from da3stream.estimation.da3.preprocessing import MEAN, STANDARD_DEVIATION, to_network_input
from da3stream.estimation.da3.single_images import (
    centred_camera,
    cropped_to_smallest,
    estimate_alone,
    estimate_together,
    resize_image,
)
from tests.estimation.da3.small_networks import seeded, small_nested, small_single_view


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        ((1080, 1920), "upper", (280, 504)),  # 283.5 -> 284 -> 280
        ((1080, 1920), "lower", (504, 896)),
        ((1920, 1080), "lower", (896, 504)),
        ((100, 150), "lower", (504, 756)),  # grows
        ((504, 700), "lower", (504, 700)),
    ],
)
def test_the_side_that_is_named_gets_the_resolution(
    size: tuple[int, int], resize: Any, expected: tuple[int, int]
) -> None:
    assert resize_image(noise(*size), 504, resize).shape == (*expected, 3)


def test_shrinking_averages() -> None:
    checkers = np.indices((112, 140)).sum(axis=0) % 2 * 255
    image = np.repeat(checkers[..., None], 3, axis=-1).astype(np.uint8)
    found = resize_image(image, 56, "lower")
    assert found.shape == (56, 70, 3)
    assert np.ptp(found) == 0
    assert found[0, 0, 0] in (127, 128)


@pytest.mark.data
def test_images_are_resized_and_cropped_like_the_published_ones(shared: Path) -> None:
    """Within one level, by which versions of OpenCV differ."""
    with np.load(shared / "da3" / "fixtures" / "preprocess.npz") as stored:
        golden = dict(stored)
    meta = json.loads(str(golden["meta"]))
    lower = {name: case for name, case in meta["cases"].items() if case["method"] == "lower_bound_resize"}
    assert len(lower) == 2
    for name, case in lower.items():
        found = resize_image(golden[f"{name}.in"], case["res"], "lower")
        assert np.abs(found - pixels(golden[f"{name}.out"])).max() <= 1.01, name
    mixed = [resize_image(golden[f"mixed.in{index}"], 84, "upper") for index in range(3)]
    for found, expected in zip(cropped_to_smallest(mixed), golden["mixed.out"], strict=True):
        assert np.abs(found - pixels(expected)).max() <= 1.01
    table = [row for row in meta["table"] if row["method"] == "lower_bound_resize"]
    assert len(table) == 42
    for row in table:
        found = resize_image(np.zeros((row["h"], row["w"], 3), np.uint8), row["res"], "lower")
        assert found.shape == (row["out_h"], row["out_w"], 3), row


def pixels(normalised: NDArray[np.float32]) -> NDArray[np.float64]:
    """(H, W, 3) from 0 to 255 of a normalised (3, H, W)."""
    return 255 * (normalised.transpose(1, 2, 0) * np.array(STANDARD_DEVIATION) + np.array(MEAN))


def test_an_image_that_fits_keeps_its_pixels() -> None:
    image = noise(56, 84)
    np.testing.assert_array_equal(resize_image(image, 56, "lower"), image)
    np.testing.assert_array_equal(resize_image(image, 84, "upper"), image)


def test_a_camera_follows_its_image() -> None:
    found = centred_camera(1000.0, (2000, 1000), (504, 280))
    np.testing.assert_allclose(found, [[252, 0, 252], [0, 280, 140], [0, 0, 1]])


def test_larger_images_lose_their_borders() -> None:
    wide, tall = noise(28, 70), noise(56, 42)
    found = cropped_to_smallest([wide, tall])
    np.testing.assert_array_equal(found, [wide[:, 14:56], tall[14:42]])


def test_metres_are_canonical_depth_times_focal_length_over_300() -> None:
    network, image = small_single_view(), noise(28, 42)
    camera = np.array([[200.0, 0, 21], [0, 250, 14], [0, 0, 1]])
    unknown, known = estimate_alone(network, [image, image], [None, camera], layers=(1,))
    canonical = network(to_network_input(image[None], torch.device("cpu")))
    np.testing.assert_allclose(unknown.depth, canonical["depth"][0, 0], rtol=1e-6)
    np.testing.assert_allclose(known.depth, unknown.depth * (225 / 300), rtol=1e-6)
    np.testing.assert_array_equal(known.sky, canonical["sky"][0, 0].numpy() >= 0.5)
    assert (unknown.is_metric, known.is_metric) == (False, True)
    assert unknown.intrinsics is None
    assert known.intrinsics is camera
    assert unknown.arrays().keys() == {"image", "depth", "sky", "is_metric", "feat_layer_1"}
    assert known.arrays().keys() == unknown.arrays().keys() | {"intrinsics"}
    assert known.features[1].shape == (2, 3, 64)


def test_the_monocular_model_has_no_metres() -> None:
    camera = np.array([[200.0, 0, 21], [0, 250, 14], [0, 0, 1]])
    network = small_single_view("da3mono-large")
    alone, known = estimate_alone(network, [noise(28, 42)] * 2, [None, camera])
    assert not known.is_metric
    np.testing.assert_array_equal(known.depth, alone.depth)


def test_images_alone_may_differ_in_size_and_do_not_see_each_other() -> None:
    small, large = noise(28, 42), noise(42, 56, seed=1)
    network = small_single_view()
    both = estimate_alone(network, [small, large], [None, None])
    assert [found.depth.shape for found in both] == [(28, 42), (42, 56)]
    np.testing.assert_array_equal(both[1].depth, estimate_alone(network, [large], [None])[0].depth)


def test_images_together_are_views_of_one_scene() -> None:
    network = seeded("tiny")
    images = [noise(28, 42, seed) for seed in range(3)]
    found = estimate_together(network, images)
    result = network(to_network_input(np.stack(images), torch.device("cpu")))
    for row, view in enumerate(found):
        arrays = view.arrays()
        assert arrays.keys() == {"image", "depth", "conf", "extrinsics", "intrinsics", "is_metric"}
        np.testing.assert_array_equal(arrays["image"], images[row])
        for ours, theirs in (("conf", "depth_conf"), ("depth", "depth"), ("extrinsics", "extrinsics")):
            np.testing.assert_array_equal(arrays[ours], result[theirs][0, row])
        assert not view.is_metric
        assert view.confidence is not None
        assert view.confidence.min() >= 1


def test_features_are_in_the_order_of_the_images() -> None:
    """The network puts the reference view first in late blocks."""
    network, layers = seeded("tiny"), (0, 1, 3, 5)
    images = [noise(28, 42, seed) for seed in range(4)]
    pixels = to_network_input(np.stack(images), torch.device("cpu"))
    shown = network(pixels, export_feat_layers=layers)
    reference = int(shown["reference"][0])
    assert reference not in (0, len(images) - 1), "otherwise the order would hardly matter"
    order = [reference, *(view for view in range(len(images)) if view != reference)]
    found = estimate_together(network, images, layers=layers)
    for layer in layers:
        late = layer >= 1  # the last block before the camera tokens
        for place, view in enumerate(order):
            expected = shown[f"feat_layer_{layer}"][0, place if late else view]
            np.testing.assert_array_equal(found[view].features[layer], expected)


def test_rays_give_other_cameras() -> None:
    network = seeded("tiny")
    images = [noise(56, 84, seed) for seed in range(2)]
    by_head, by_rays = (estimate_together(network, images, use_rays=rays)[0] for rays in (False, True))
    assert by_head.intrinsics is not None
    assert by_rays.intrinsics is not None
    assert not np.allclose(by_head.intrinsics, by_rays.intrinsics)


def test_the_nested_model_has_metres_and_cameras() -> None:
    (found,) = estimate_together(small_nested(), [noise(28, 42)], layers=(3,))
    assert found.is_metric
    assert found.arrays().keys() >= {"conf", "extrinsics", "intrinsics", "feat_layer_3"}


def test_a_block_that_is_not_there_is_an_error() -> None:
    with pytest.raises(EstimationError, match="no such layers to export"):
        estimate_alone(small_single_view(), [noise(28, 42)], [None], layers=(5,))
