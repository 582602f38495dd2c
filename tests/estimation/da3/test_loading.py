"""One call from a model's name to a network that runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from da3stream.errors import ConfigError, WeightsError
from da3stream.estimation.da3.config import PRESETS
from da3stream.estimation.da3.loading import load_network
from da3stream.transformer.execution import trunk_dtype_for
from da3stream.transformer.seeded_weights import seed_of
from tests.estimation.da3.checkpoint_files import tiny_arrays, write_folder
from tests.estimation.da3.golden import FOLDER
from tests.estimation.da3.networks import TOLERANCE, errors, random_images, result_for


def test_seed_0_is_the_network_of_the_fixtures() -> None:
    golden = FOLDER / "tiny_n2.npz"
    found = errors(result_for(load_network("tiny", weights="seeded:0"), golden), golden)
    assert found.keys() >= {"depth", "depth_conf", "extrinsics", "intrinsics", "head.ray"}
    assert max(found.values()) <= TOLERANCE, found


def test_another_seed_is_another_network() -> None:
    weights = [load_network("tiny", weights=f"seeded:{seed}").state_dict() for seed in (0, 1, 1)]
    name = "backbone.pretrained.blocks.0.attn.qkv.weight"
    assert not torch.equal(weights[0][name], weights[1][name])
    assert torch.equal(weights[1][name], weights[2][name])


def test_a_checkpoint_gives_the_same_network_as_its_seed(tmp_path: Path) -> None:
    loaded = load_network("tiny", weights=write_folder(tmp_path, tiny_arrays())).state_dict()
    seeded = load_network("tiny", weights="seeded:0").state_dict()
    assert loaded.keys() == seeded.keys()
    assert all(torch.equal(loaded[name], seeded[name]) for name in loaded)


@pytest.mark.parametrize("from_file", [True, False])
def test_without_rays_their_branch_is_not_there(tmp_path: Path, from_file: bool) -> None:
    weights = write_folder(tmp_path, tiny_arrays()) if from_file else "seeded:0"
    network = load_network("tiny", weights=weights, with_rays=False)
    full = load_network("tiny", weights=weights)
    gone = full.state_dict().keys() - network.state_dict().keys()
    assert gone
    assert all("_aux" in name for name in gone)
    assert not any("_aux" in name for name in network.state_dict())
    images = random_images(3)
    with torch.inference_mode():
        for name, value in network(images).items():
            torch.testing.assert_close(value, full(images)[name])


def test_without_gaussians_their_head_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny-gs", replace(PRESETS["tiny"], name="tiny-gs", has_gaussians=True))
    full = load_network("tiny-gs", weights="seeded:0").state_dict()
    small = load_network("tiny-gs", weights="seeded:0", with_gaussians=False).state_dict()
    gone = full.keys() - small.keys()
    assert gone
    assert {name.split(".")[0] for name in gone} == {"gs_head"}
    assert not any(name.startswith("gs_head") for name in small)


def test_only_the_matrices_of_the_transformer_take_another_type() -> None:
    network = load_network("tiny", weights="seeded:0", trunk_dtype=torch.bfloat16)
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    small = {name for name, dtype in types.items() if dtype == torch.bfloat16}
    assert set(types.values()) == {torch.bfloat16, torch.float32}
    assert {name.split(".")[4] for name in small} == {"attn", "mlp"}
    assert "backbone.pretrained.blocks.0.attn.qkv.weight" in small
    assert types["backbone.pretrained.blocks.0.norm1.weight"] == torch.float32
    assert types["head.projects.0.weight"] == torch.float32


def test_nothing_is_left_on_the_meta_device_or_wants_gradients() -> None:
    network = load_network("tiny", weights="seeded:0")
    assert not network.training
    for tensor in (*network.parameters(), *network.buffers()):
        assert not tensor.is_meta
        assert not tensor.requires_grad


def test_the_cpu_computes_in_float32() -> None:
    assert trunk_dtype_for("cpu") == torch.float32


@pytest.mark.parametrize(("weights", "seed"), [(None, None), ("seeded:7", 7), ("weights/x", None)])
def test_seeds(weights: str | None, seed: int | None) -> None:
    assert seed_of(weights) == seed


@pytest.mark.parametrize("weights", ["seeded:", "seeded:x", "seeded:-1"])
def test_a_seed_is_a_number(weights: str) -> None:
    with pytest.raises(ConfigError, match=r"need a seed.*seeded:0"):
        load_network("tiny", weights=weights)


def test_unknown_models_and_missing_or_foreign_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="no such DA3 model"):
        load_network("da3-huge", weights="seeded:0")
    with pytest.raises(WeightsError, match="weights fetch da3-base"):
        load_network("da3-base")
    folder = write_folder(tmp_path / "held", tiny_arrays(), model="da3-small")
    with pytest.raises(WeightsError, match="another model; got da3-small; expected da3-base"):
        load_network("da3-base", weights=folder)


def test_the_licence_is_said_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("da3stream.estimation.da3.weights._ANNOUNCED", set())
    said: list[str] = []
    folder = write_folder(tmp_path, tiny_arrays(), model="da3-small")
    with pytest.raises(WeightsError, match="misshapen"):
        load_network("da3-small", weights=folder, notify=said.append)
    load_network("tiny", weights="seeded:0", notify=said.append)
    assert said == []
