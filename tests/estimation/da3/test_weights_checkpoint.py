"""Checkpoints into networks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from da3stream.errors import WeightsError
from da3stream.estimation.da3 import weights
from da3stream.estimation.da3.catalogue import find_model
from da3stream.estimation.da3.checkpoint import check_names, check_values, load_checkpoint
from da3stream.estimation.da3.weights import WeightsLocation, resolve_weights
from tests.estimation.da3.checkpoint_files import few_arrays, write_folder, write_shards, write_weights


class Small(nn.Module):
    """The network of `few_arrays`, with a second name for one of its layers and a constant of its own."""

    constant: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("constant", torch.ones(2, device="cpu"), persistent=False)


def small() -> Small:
    with torch.device("meta"):
        return Small()


@pytest.fixture
def location(tmp_path: Path) -> WeightsLocation:
    return resolve_weights(write_folder(tmp_path / "held", few_arrays()))


def rewritten(
    location: WeightsLocation, change: Callable[[dict[str, np.ndarray]], object]
) -> WeightsLocation:
    arrays = few_arrays()
    change(arrays)
    write_weights(location.files[0], arrays)
    return location


def test_every_parameter_gets_its_values(location: WeightsLocation) -> None:
    network = small()
    load_checkpoint(network, location)
    arrays = few_arrays()
    for name, value in network.state_dict().items():
        assert value.dtype is torch.float32
        np.testing.assert_array_equal(value.numpy(), arrays[f"model.{name}"])
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(isinstance(parameter, nn.Parameter) for parameter in network.parameters())


def test_shards_load_like_one_file(location: WeightsLocation, tmp_path: Path) -> None:
    one, three = small(), small()
    load_checkpoint(one, location)
    load_checkpoint(three, resolve_weights(write_shards(tmp_path / "shards", few_arrays(), shards=3)))
    for name, value in one.state_dict().items():
        assert torch.equal(value, three.state_dict()[name])


def test_the_type_may_depend_on_the_name(location: WeightsLocation) -> None:
    network = small()
    load_checkpoint(
        network, location, dtype=lambda name: torch.bfloat16 if name == "first.weight" else torch.float32
    )
    assert network.first.weight.dtype is torch.bfloat16
    assert network.first.bias.dtype is torch.float32
    expected = torch.from_numpy(few_arrays()["model.first.weight"]).bfloat16()
    assert torch.equal(network.first.weight, expected)


@pytest.mark.parametrize("stored", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_stored_types(location: WeightsLocation, stored: torch.dtype) -> None:
    tensors = {name: torch.from_numpy(array).to(stored) for name, array in few_arrays().items()}
    save_file(tensors, location.files[0])
    network = small()
    load_checkpoint(network, location, dtype=torch.float32)
    assert torch.equal(network.first.weight, tensors["model.first.weight"].float())


def test_tied_parameters_stay_tied(location: WeightsLocation) -> None:
    network = small()
    network.second = network.first
    arrays = few_arrays()
    arrays |= {name.replace("first", "second"): array for name, array in arrays.items() if "first" in name}
    write_weights(location.files[0], arrays)
    load_checkpoint(network, location)
    assert network.second.weight is network.first.weight
    network = small()
    network.second = nn.Linear(2, 3, device="meta")
    network.second.weight = network.first.weight
    load_checkpoint(network, location)
    assert network.second.weight is network.first.weight
    assert network.second.bias is not network.first.bias


def test_buffers_are_filled_and_constants_kept(location: WeightsLocation) -> None:
    network = small()
    network.register_buffer("mean", torch.zeros(4, device="meta"))
    mean = np.arange(4, dtype=np.float32)
    load_checkpoint(network, rewritten(location, lambda arrays: arrays.update({"model.mean": mean})))
    assert torch.equal(network.mean, torch.arange(4.0))
    assert not isinstance(network.mean, nn.Parameter)
    assert torch.equal(network.constant, torch.ones(2))


def test_a_constant_without_values_is_a_bug_of_the_network(location: WeightsLocation) -> None:
    network = small()
    network.register_buffer("constant", torch.ones(2, device="meta"), persistent=False)
    with pytest.raises(RuntimeError, match="the constant constant of Small"):
        load_checkpoint(network, location)


def test_what_does_not_fit_is_refused_before_anything_changes(location: WeightsLocation) -> None:
    network = small()
    rewritten(location, lambda arrays: (arrays.pop("model.scale"), arrays.update({"model.x": np.ones(1)})))
    with pytest.raises(WeightsError, match=r"1 missing \(scale\); 1 unexpected \(model.x\)"):
        load_checkpoint(network, location)
    assert all(parameter.is_meta for parameter in network.parameters())
    assert check_names(network, location).missing == ("scale",)
    with pytest.raises(WeightsError, match=r"1 missing \(scale\)"):
        load_checkpoint(network, location, skip=("x",))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(location: WeightsLocation, bad: float) -> None:
    rewritten(location, lambda arrays: arrays["model.first.bias"].__setitem__(1, bad))
    for read in (lambda: load_checkpoint(small(), location), lambda: check_values(location)):
        with pytest.raises(WeightsError, match=r"first\.bias in .* holds NaN or infinities.*fetch it again"):
            read()


def test_zero_filled_tensors_are_refused_but_zero_biases_are_not(location: WeightsLocation) -> None:
    load_checkpoint(small(), rewritten(location, lambda arrays: arrays["model.first.bias"].fill(0)))
    rewritten(location, lambda arrays: arrays["model.first.weight"].fill(0))
    with pytest.raises(WeightsError, match=r"first\.weight in .* is all zero"):
        load_checkpoint(small(), location)
    with pytest.raises(WeightsError, match="is all zero"):
        check_values(location)


def test_values_beyond_the_range_of_the_type_are_refused(location: WeightsLocation) -> None:
    rewritten(location, lambda arrays: arrays["model.first.weight"].__setitem__((0, 0), -1e5))
    load_checkpoint(small(), location, dtype=torch.bfloat16)
    with pytest.raises(WeightsError, match=r"does not fit torch\.float16; got values from -100000 to"):
        load_checkpoint(small(), location, dtype=torch.float16)


def test_random_values_behind_an_intact_header_are_noticed(location: WeightsLocation) -> None:
    rng = np.random.default_rng(0)
    noise = np.frombuffer(rng.bytes(64 * 64 * 4), np.float32).reshape(64, 64)
    network = nn.Module()
    network.weight = nn.Parameter(torch.empty(64, 64, device="meta"))
    write_weights(location.files[0], {"model.weight": noise})
    with pytest.raises(WeightsError, match="NaN or infinities"):
        load_checkpoint(network, location)


def test_check_values_counts_all_of_them(location: WeightsLocation) -> None:
    assert check_values(location) == 3 * 2 + 3 + 1


def test_a_file_that_vanishes_is_a_known_error(location: WeightsLocation) -> None:
    location.files[0].unlink()
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        load_checkpoint(small(), location)


def test_the_licence_is_said_once_per_model(
    location: WeightsLocation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(weights, "_ANNOUNCED", set())
    free, bound = find_model("da3-small"), find_model("da3-large")
    said: list[str] = []
    for model in (free, bound, free):
        load_checkpoint(small(), replace(location, model=model), notify=said.append)
    assert said == [
        "the weights of da3-small are licensed under Apache-2.0",
        "the weights of da3-large are licensed under CC BY-NC 4.0: no commercial use",
    ]
    weights._ANNOUNCED.clear()
    with caplog.at_level(logging.INFO):
        load_checkpoint(small(), replace(location, model=free))
        load_checkpoint(small(), replace(location, model=bound))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", said[0]),
        ("WARNING", said[1]),
    ]
