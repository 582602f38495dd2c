"""The head that predicts Gaussians."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from da3stream.estimation.da3.config import ModelConfig, preset
from da3stream.estimation.da3.gaussian_head import GaussianHead
from da3stream.estimation.da3.network import create_network
from da3stream.transformer.seeded_weights import seeded_array
from tests.estimation.da3.golden import load, relative_error
from tests.estimation.da3.seeded_weights import normalise

ROWS, COLUMNS, VIEWS = 3, 4, 3


def tiny() -> ModelConfig:
    config = preset("tiny")
    assert isinstance(config, ModelConfig)
    return config


def tiny_inputs(config: ModelConfig) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(VIEWS, width, ROWS, COLUMNS, generator=generator) for width in config.head_channels]
    return maps, torch.randn(VIEWS, 3, 14 * ROWS, 14 * COLUMNS, generator=generator)


@torch.no_grad()
def test_views_are_independent_of_how_many_are_worked_on_together() -> None:
    head = GaussianHead(tiny()).eval()
    maps, images = tiny_inputs(tiny())
    together, one_by_one = head(maps, images, VIEWS), head(maps, images, 1)
    assert together["gs.raw"].shape == (VIEWS, 14 * ROWS, 14 * COLUMNS, 37)
    assert together["gs.conf"].shape == (VIEWS, 14 * ROWS, 14 * COLUMNS)
    assert 0 <= together["gs.conf"].min() <= together["gs.conf"].max() <= 1
    for name, values in together.items():
        torch.testing.assert_close(values, one_by_one[name], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_image_adds_detail_where_it_is() -> None:
    head = GaussianHead(tiny()).eval()
    maps, images = tiny_inputs(tiny())
    changed = images.clone()
    changed[1, :, 20, 30] += 5
    difference = (head(maps, changed, VIEWS)["gs.raw"] - head(maps, images, VIEWS)["gs.raw"]).abs().amax(-1)
    touched = difference.nonzero()
    assert len(touched)
    # Three 3 x 3 convolutions on the image and one after: four pixels each way.
    assert (touched - torch.tensor([1, 20, 30])).abs().amax(0).tolist() == [0, 4, 4]


@pytest.mark.data
def test_names_and_shapes_are_those_of_the_checkpoint(shared: Path) -> None:
    keys = json.loads((shared / "da3" / "state_dict_keys.json").read_text())["da3-giant"]["checkpoint"]
    prefix = "model.gs_head."
    expected = {
        key.removeprefix(prefix): tuple(shape) for key, shape in keys.items() if key.startswith(prefix)
    }
    with torch.device("meta"):
        head = GaussianHead(preset("da3-giant"))
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == expected


@pytest.mark.slow
@pytest.mark.data
@torch.no_grad()
def test_published_gaussians_of_the_giant_model(shared: Path) -> None:
    """The whole network with its 1.36 billion seeded weights: a minute and 6 GB."""
    golden = load(shared / "da3" / "fixtures" / "giant_n3_84x112_gs.npz")
    with torch.device("meta"):
        network = create_network("da3-giant")
    weights = {
        key: torch.from_numpy(seeded_array(f"model.{key}", tuple(value.shape)))
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(weights, assign=True)
    found = network(normalise(golden["images_u8"].numpy()), infer_gs=True)
    for name in ("depth", "depth_conf", "extrinsics", "intrinsics", "pose_enc", "gs.conf"):
        assert relative_error(found[name][0], golden[name]) < 2e-5, name
    assert relative_error(found["gs.raw"][0, :, ::3, ::3], golden["gs.raw"]) < 2e-5
    for name in ("means", "scales"):
        assert relative_error(found[f"gaussians.{name}"][0], golden[f"gaussians.{name}"]) < 2e-5, name
    # Short quaternions of random weights enlarge the rounding.
    assert relative_error(found["gaussians.rotations"][0], golden["gaussians.rotations"]) < 1e-4
    assert relative_error(found["gaussians.opacities"][0, ..., None], golden["gaussians.opacities"]) < 2e-5
    harmonics = found["gaussians.harmonics"][0, :, ::3, ::3].flatten(-2)
    assert relative_error(harmonics, golden["gaussians.harmonics"]) < 2e-5
