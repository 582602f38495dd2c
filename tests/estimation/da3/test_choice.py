"""What `--model auto` means, from weights, devices and the hub that a machine may have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from da3stream.config import EstimationConfig
from da3stream.errors import ConfigError, MissingDependencyError, WeightsError
from da3stream.estimation import AUTO_NOTICE, create_estimator, resolve_model
from da3stream.estimation.da3.building import build_da3
from da3stream.estimation.da3.catalogue import KnownModel
from da3stream.estimation.da3.device import choose_device, runs_on_gpu
from da3stream.transformer.attention import fused_attention
from tests.estimation.da3.checkpoint_files import few_arrays, tiny_arrays, write_folder, write_weights


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights, no GPU, and a hub that must not be asked. Returns the working directory."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr("da3stream.__file__", str(tmp_path / "installed" / "da3stream" / "__init__.py"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("da3stream.estimation.da3.device.cuda_is_available", lambda: False)

    def no_hub(model: KnownModel) -> Path:
        raise AssertionError(f"{model.name} was fetched")

    monkeypatch.setattr("da3stream.estimation.da3.choice.fetch", no_hub)
    return work


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("da3stream.estimation.da3.device.cuda_is_available", lambda: True)


def put(work: Path, *models: str) -> None:
    for model in models:
        write_folder(work / "weights" / model, few_arrays(), model=model)


def resolve(**options: str) -> tuple[str, str]:
    """The name, and all that was said."""
    said: list[str] = []
    name = resolve_model(EstimationConfig(**options), said.append)
    return name, "\n".join(said)


def test_a_named_model_is_taken_in_silence() -> None:
    assert resolve(model="classical") == ("classical", "")
    assert resolve(model="da3-giant") == ("da3-giant", "")


def test_nothing_here_means_classical_and_says_what_would_give_more() -> None:
    assert resolve() == ("classical", AUTO_NOTICE)
    assert "da3stream weights fetch da3-base" in AUTO_NOTICE


def test_a_cpu_takes_a_small_network_and_says_that_it_is_slow(machine: Path) -> None:
    put(machine, "da3-small", "da3-base", "da3-giant", "da3metric-large")
    name, said = resolve()
    assert name == "da3-base"
    assert len(said.splitlines()) == 1
    assert "--model classical may be faster" in said


def test_a_cpu_leaves_large_networks_alone(machine: Path) -> None:
    put(machine, "da3-large", "da3-giant")
    name, said = resolve()
    assert name == "classical"
    assert "da3-large, da3-giant" in said
    assert "GPU" in said
    assert AUTO_NOTICE in said


@pytest.mark.usefixtures("gpu")
def test_a_gpu_takes_the_best_that_is_here(machine: Path) -> None:
    put(machine, "da3-small", "da3-large", "da3mono-large")
    name, said = resolve()
    assert name == "da3-large"
    assert "da3-large" in said
    assert resolve(device="cpu")[0] == "da3-small"


@pytest.mark.usefixtures("gpu")
def test_weights_that_cannot_be_used_are_left_out_aloud(machine: Path) -> None:
    put(machine, "da3-base")
    write_folder(machine / "weights" / "da3-large", few_arrays(), model="da3-giant")
    name, said = resolve()
    assert name == "da3-base"
    assert "da3-large is left out" in said
    assert "holds another model" in said


@pytest.mark.usefixtures("gpu")
def test_a_gpu_without_weights_fetches_base_and_names_the_better_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(
        "da3stream.estimation.da3.choice.fetch", lambda model: fetched.append(model.name) or Path()
    )
    name, said = resolve()
    assert (name, fetched) == ("da3-base", ["da3-base"])
    assert len(said.splitlines()) == 1
    for part in (
        "0.54 GB",
        "Apache-2.0",
        "da3-large (1.6 GB)",
        "da3nested-giant-large (6.8 GB)",
        "CC BY-NC 4.0",
    ):
        assert part in said
    assert "da3metric-large" not in said


@pytest.mark.usefixtures("gpu")
def test_a_hub_that_cannot_be_reached_means_classical(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(model: KnownModel) -> Path:
        raise WeightsError(f"{model.repository} cannot be fetched (ConnectError)")

    monkeypatch.setattr("da3stream.estimation.da3.choice.fetch", unreachable)
    name, said = resolve()
    assert name == "classical"
    assert "DA3-BASE cannot be fetched (ConnectError)" in said
    assert said.endswith(AUTO_NOTICE)


def test_weights_that_are_named_say_the_model(machine: Path) -> None:
    put(machine, "da3-small", "da3-base")
    folder = write_folder(machine / "elsewhere", few_arrays(), model="da3-large")
    assert resolve(weights="elsewhere") == ("da3-large", "")
    assert resolve(weights=str(folder / "model.safetensors")) == ("da3-large", "")


def test_weights_that_say_nothing_or_the_wrong_thing(machine: Path) -> None:
    write_weights(machine / "bare.safetensors", few_arrays())
    for weights in ("bare.safetensors", "seeded:0"):
        with pytest.raises(ConfigError, match=r"nothing says which model .*--model|Name it: --model"):
            resolve(weights=weights)
    write_folder(machine / "metric", few_arrays(), model="da3metric-large")
    with pytest.raises(ConfigError, match=r"da3metric-large, which has no poses.*da3stream depth"):
        resolve(weights="metric")
    with pytest.raises(WeightsError, match="missing"):
        resolve(weights="missing")


# Making the estimator -------------------------------------------------------------------------------------


def test_the_estimator_of_a_name() -> None:
    classical = create_estimator("classical", EstimationConfig(), print)
    assert classical.name == "classical"
    config = EstimationConfig(model="tiny", weights="seeded:3", pose_head="ray", reference_view="middle")
    network = build_da3(config, "tiny", print)
    assert (network.name, network.is_metric, network.weights) == ("tiny", False, {"seed": 3})


def test_weights_are_identified_by_commit_names_and_sizes(machine: Path) -> None:
    folder = write_folder(machine / ("ab" * 20), tiny_arrays())
    network = build_da3(EstimationConfig(model="tiny", weights=str(folder)), "tiny", print)
    size = (folder / "model.safetensors").stat().st_size
    assert network.weights == {"revision": "ab" * 20, "files": {"model.safetensors": size}}


def test_a_model_without_its_weights_says_how_to_get_them() -> None:
    with pytest.raises(WeightsError, match="da3stream weights fetch da3-large"):
        create_estimator("da3-large", EstimationConfig(model="da3-large"), print)


def test_xformers_must_be_there_if_it_is_asked_for() -> None:
    config = EstimationConfig(model="tiny", weights="seeded:0", attention="xformers")
    with pytest.raises(MissingDependencyError, match=r"pip install 'da3stream\[xformers\]'"):
        build_da3(config, "tiny", print)


def test_the_attention_reaches_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def marked_attention(*vectors: Any) -> Any:
        return fused_attention(*vectors)

    def named(*arguments: Any) -> Any:
        asked.append(arguments)
        return marked_attention

    config = EstimationConfig(model="tiny", weights="seeded:0", attention="xformers")
    monkeypatch.setattr("da3stream.estimation.da3.building.attention_named", named)
    network = build_da3(config, "tiny", print)._network
    assert asked == [("xformers", torch.device("cpu"), torch.float32)]
    assert network.execution.attention is marked_attention


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == "cpu"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert str(choose_device("cuda:1")) == "cuda:1"
    with pytest.raises(ConfigError, match=r"no GPU for --device cuda:2; got 2 GPUs.*--device cpu"):
        choose_device("cuda:2")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ConfigError, match="no GPU for --device cuda"):
        choose_device("cuda")


def test_without_a_driver_torch_is_not_loaded() -> None:
    script = """
import sys
from da3stream.estimation.da3 import device
def missing(name):
    raise OSError(name)
device.ctypes.CDLL = missing
assert not device.cuda_is_available() and not device.runs_on_gpu("auto")
print("torch" in sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.strip() == "False"


@pytest.mark.usefixtures("gpu")
def test_a_gpu_is_taken_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert choose_device("auto").type == "cuda"
    assert choose_device("cpu").type == "cpu"
    assert (runs_on_gpu("auto"), runs_on_gpu("cpu"), runs_on_gpu("cuda:0")) == (True, False, True)
