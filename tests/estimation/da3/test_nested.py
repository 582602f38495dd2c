"""Metric scale and sky of the nested model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from da3stream.errors import EstimationError
from da3stream.estimation.da3.nested import MetricGeometry, align_to_metric, metric_depth
from tests.estimation.da3.golden import FOLDER, load, relative_error

VIEWS, HEIGHT, WIDTH = 3, 20, 30


def scene(seed: int = 0) -> dict[str, Tensor]:
    """Outputs of both networks: no sky, exact, 2.5 metres to the unit."""
    generator = torch.Generator().manual_seed(seed)
    depth = 1 + 4 * torch.rand(VIEWS, HEIGHT, WIDTH, generator=generator)
    intrinsics = torch.diag_embed(torch.tensor([[240.0, 260.0, 1], [300, 300, 1], [100, 110, 1]]))
    focal = intrinsics.diagonal(dim1=1, dim2=2)[:, :2].mean(1)
    return {
        "depth": depth,
        "confidence": 1 + torch.rand(depth.shape, generator=generator),
        "cam_from_world": torch.randn(VIEWS, 3, 4, generator=generator),
        "intrinsics": intrinsics,
        "canonical_depth": 2.5 * depth * 300 / focal[:, None, None],
        "sky": torch.zeros_like(depth),
    }


def align(arrays: dict[str, Tensor]) -> MetricGeometry:
    names = ("depth", "confidence", "cam_from_world", "intrinsics")
    positional = [arrays[name] for name in names]
    return align_to_metric(*positional, canonical_depth=arrays["canonical_depth"], sky=arrays["sky"])


def test_the_scale_reaches_depth_and_translations() -> None:
    arrays = scene()
    aligned = align(arrays)
    assert aligned.scale == pytest.approx(2.5, rel=1e-6)
    torch.testing.assert_close(aligned.depth_m, 2.5 * arrays["depth"])
    torch.testing.assert_close(aligned.cam_from_world[:, :, 3], 2.5 * arrays["cam_from_world"][:, :, 3])
    torch.testing.assert_close(aligned.cam_from_world[:, :, :3], arrays["cam_from_world"][:, :, :3])
    assert torch.equal(aligned.confidence, arrays["confidence"])


def test_only_confident_ground_with_depth_sets_the_scale() -> None:
    arrays = scene()
    unsure = arrays["confidence"] < arrays["confidence"].median()
    arrays["canonical_depth"][unsure] = 1e6
    arrays["sky"][0, :5] = 1.0
    arrays["canonical_depth"][0, :5] = 1e6
    arrays["confidence"][0, :5] = 50.0
    arrays["depth"][1, 0] = 1e-4
    arrays["canonical_depth"][1, 1] = 1e-4
    arrays["confidence"][1, :2] = 50.0
    assert align(arrays).scale == pytest.approx(2.5, rel=1e-6)


def test_the_sky_is_far_but_not_beyond_200_metres_and_least_confident() -> None:
    arrays = scene()
    arrays["sky"][:, :4] = 0.3
    aligned = align(arrays)
    far = torch.quantile(aligned.depth_m[:, 4:].flatten(), 0.99)
    torch.testing.assert_close(aligned.depth_m[:, :4], far.expand(VIEWS, 4, WIDTH), rtol=1e-5, atol=0)
    assert (aligned.confidence[:, :4] == 1).all()
    assert torch.equal(aligned.confidence[:, 4:], arrays["confidence"][:, 4:])
    arrays["canonical_depth"] *= 100
    far_away = align(arrays).depth_m
    assert (far_away[:, :4] == 200).all()
    assert far_away[:, 4:].max() > 200


def test_many_pixels_give_the_same_geometry_every_time() -> None:
    """More than the published network's quantiles look at; no global generator has a say."""
    arrays = {
        name: values.repeat(1, 10, 8) if values.shape[1:] == (HEIGHT, WIDTH) else values
        for name, values in scene().items()
    }
    arrays["sky"][:, :40] = 1.0
    arrays["canonical_depth"] += torch.rand(arrays["depth"].shape, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    first = align(arrays)
    torch.manual_seed(1)
    second = align(arrays)
    assert first.scale == second.scale
    assert torch.equal(first.depth_m, second.depth_m)


def test_images_of_sky_are_an_error() -> None:
    arrays = scene()
    arrays["sky"][:] = 1.0
    arrays["sky"][0, 0, :10] = 0.0
    with pytest.raises(EstimationError, match="nearly all of the images is sky; got 10 other pixels"):
        align(arrays)


def test_depth_that_is_nowhere_positive_is_an_error() -> None:
    arrays = scene()
    arrays["canonical_depth"][:] = 0.0
    with pytest.raises(EstimationError, match="no pixel has a positive depth"):
        align(arrays)


def test_arguments_stay_as_they_are() -> None:
    arrays = scene()
    arrays["sky"][:, :4] = 1.0
    copies = {name: values.clone() for name, values in arrays.items()}
    align(arrays)
    assert all(torch.equal(arrays[name], copies[name]) for name in arrays)


@pytest.mark.parametrize("case", ["half", "nosky", "few"])
def test_published_alignment(case: str) -> None:
    """Half of the images sky, none, and four pixels."""
    golden = load(FOLDER / "nested_post.npz")
    of_network = {name: golden[f"{case}.in.{name}"] for name in ("depth", "extrinsics", "intrinsics", "sky")}
    canonical = golden[f"{case}.in.metric_depth"]
    aligned = align_to_metric(
        of_network["depth"],
        golden[f"{case}.in.depth_conf"],
        of_network["extrinsics"],
        of_network["intrinsics"],
        canonical_depth=canonical,
        sky=of_network["sky"],
    )
    in_metres = metric_depth(canonical, of_network["intrinsics"])
    assert relative_error(in_metres, golden[f"{case}.metric_scaled"]) < 1e-6
    assert relative_error(aligned.scale, golden[f"{case}.out.scale_factor"]) < 1e-6
    assert relative_error(aligned.depth_m, golden[f"{case}.out.depth"]) < 5e-6
    assert relative_error(aligned.confidence, golden[f"{case}.out.depth_conf"]) < 1e-6
    assert relative_error(aligned.cam_from_world, golden[f"{case}.out.extrinsics"]) < 1e-6
