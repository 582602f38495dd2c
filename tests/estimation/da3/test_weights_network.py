"""The networks of the package take what the hub publishes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from da3stream.errors import WeightsError
from da3stream.estimation.da3.catalogue import MODELS
from da3stream.estimation.da3.checkpoint import empty_network, load_checkpoint
from da3stream.estimation.da3.weights import resolve_weights
from da3stream.transformer.key_match import match_keys
from tests.estimation.da3.checkpoint_files import tiny_arrays, write_folder, write_weights
from tests.estimation.da3.golden import FOLDER
from tests.estimation.da3.networks import TOLERANCE, errors, result_for

SHARED_NORM = "head.scratch.output_conv2_aux.0.2.weight"


def test_tiny_is_filled_completely_and_predicts_what_it_must(tmp_path: Path) -> None:
    arrays = tiny_arrays()
    network = empty_network("tiny")
    load_checkpoint(network, resolve_weights(write_folder(tmp_path, arrays)))
    state = network.state_dict()
    assert not any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))
    for name, array in arrays.items():
        np.testing.assert_array_equal(state[name.removeprefix("model.")].numpy(), array)
    golden = FOLDER / "tiny_n2.npz"
    found = errors(result_for(network, golden), golden)
    assert found.keys() >= {"depth", "depth_conf", "extrinsics", "intrinsics"}
    assert max(found.values()) <= TOLERANCE, found


def test_copies_of_the_shared_norm_must_agree(tmp_path: Path) -> None:
    arrays = tiny_arrays()
    copies = {f"model.{SHARED_NORM.replace('.0.2.', f'.{level}.2.')}": level for level in (1, 2, 3)}
    kept = arrays[f"model.{SHARED_NORM}"]
    location = resolve_weights(write_folder(tmp_path, {**arrays, **{name: kept.copy() for name in copies}}))
    load_checkpoint(empty_network("tiny"), location)
    write_weights(location.files[0], {**arrays, **{name: kept + level for name, level in copies.items()}})
    with pytest.raises(WeightsError, match=r"aux\.1\.2\.weight differs from .*aux\.0\.2\.weight"):
        load_checkpoint(empty_network("tiny"), location)


def test_weights_of_another_size_are_one_error(tmp_path: Path) -> None:
    location = resolve_weights(write_folder(tmp_path, tiny_arrays()))
    network = empty_network("da3-small")
    with pytest.raises(
        WeightsError, match=r"108 missing \(.*\.\.\.\); 8 unexpected .* 309 misshapen \(.* for .*\.\.\.\)"
    ):
        load_checkpoint(network, location)
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.data
@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_every_published_model_has_the_keys_of_its_network(name: str, shared: Path) -> None:
    published = json.loads((shared / "da3" / "state_dict_keys.json").read_text())[name]
    model = next(model for model in MODELS if model.name == name)
    assert model.parameters == published["n_params"]
    network = empty_network(name)
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict(keep_vars=True).items()}
    match_keys(shapes, published["checkpoint"]).require(name)


MEMORY_SCRIPT = """
import re, sys
import torch
from torch import nn
from da3stream.estimation.da3.checkpoint import empty_network, load_checkpoint
from da3stream.estimation.da3.weights import resolve_weights

def peak_bytes():
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])

location = resolve_weights(sys.argv[1])
with torch.device("meta"):
    network = nn.Module()
    for index in range(64):
        network.register_parameter(f"w{index}", nn.Parameter(torch.empty(1024, 1024)))
before = peak_bytes()
load_checkpoint(network, location, dtype=torch.bfloat16)
print(peak_bytes() - before, sum(weight.nbytes for weight in network.parameters()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_holds_the_network_and_one_tensor(tmp_path: Path) -> None:
    """256 MiB of float32 become 128 MiB of bfloat16: far less than 128 MiB more may be needed on the way."""
    block = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    file = write_weights(tmp_path / "large.safetensors", {f"w{index}": block for index in range(64)})
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, str(file)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    grown_bytes, network_bytes = map(int, done.stdout.split())
    assert network_bytes == 128 << 20
    assert 0.9 * network_bytes < grown_bytes < network_bytes + (24 << 20)
