"""The benchmark scripts of the networks: that they run anywhere, and that their figures are what they say."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear as blas_linear
from torch.utils.flop_counter import FlopCounterMode

from da3stream.estimation.da3 import dense_head
from da3stream.estimation.da3.loading import load_network, shaped_network
from da3stream.transformer import blocks, linear
from da3stream.transformer.execution import Execution

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
FOREIGN = ("pydantic", "av", "pycolmap", "cv2", "scipy", "yaml", "click", "huggingface_hub", "rich", "pytest")


@pytest.fixture
def cpu_network(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("cpu_network")


@pytest.fixture
def gpu_network(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "")
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("gpu_network")


@pytest.fixture
def bench(gpu_network: ModuleType, tmp_path: Path) -> Any:
    """On the CPU, with a minute left."""
    return gpu_network.Bench(
        device=torch.device("cpu"),
        work=gpu_network.workload("tiny", small=True),
        out=tmp_path,
        found={},
        deadline_s=time.monotonic() + 60,
    )


def on_disk(bench: Any) -> Any:
    return json.loads((bench.out / "gpu_network.json").read_text())


def test_what_goes_wrong_costs_no_other_case(bench: Any) -> None:
    def breaks() -> dict[str, Any]:
        raise ValueError("no such thing")

    bench.attempt("speed", "first", breaks)
    bench.attempt("speed", "second", lambda: {"seconds": 1.0})
    assert on_disk(bench)["speed"]["first"]["failure"] == "ValueError: no such thing"
    assert on_disk(bench)["speed"]["second"]["seconds"] == 1.0
    assert bench.failures == ["speed: first: ValueError: no such thing"]


def test_a_figure_beyond_its_limit_is_a_failure(bench: Any, gpu_network: ModuleType) -> None:
    bench.attempt("parity", "good", lambda: gpu_network.limited("error", 1e-6, 1e-5))
    bench.attempt("parity", "bad", lambda: gpu_network.limited("error", 2e-5, 1e-5))
    assert bench.failures == ["parity: bad: beyond the limit"]


def test_nothing_begins_after_the_deadline(bench: Any) -> None:
    bench.deadline_s = time.monotonic() - 1
    bench.attempt("long", "video", lambda: pytest.fail("it began"))
    assert on_disk(bench)["long"]["video"] == {"left out": "no time left"}
    assert bench.failures == []


def test_the_formula_of_operations_is_what_torch_counts(gpu_network: ModuleType) -> None:
    """Apart from the patches, which are a convolution."""

    def plain_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return queries @ keys.mT @ values

    transformer = shaped_network("tiny", torch.float32).backbone.pretrained
    execution, frames = Execution(attention=plain_attention), 3
    images = torch.empty(1, frames, 3, 42, 56, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        early, _ = transformer.early(images[0], execution)
        camera_tokens = torch.empty(1, frames, 64, device="meta")
        for _ in transformer.features(early.tokens, camera_tokens, images, execution):
            pass
    counted = counter.get_flop_counts()["Global"]
    products = sum(value for name, value in counted.items() if "convolution" not in str(name))
    assert gpu_network.trunk_flops(transformer, (56, 42), frames) == products


def test_operations_of_both_networks_count(gpu_network: ModuleType) -> None:
    def of(model: str) -> dict[str, int]:
        return gpu_network.flops(model, (84, 56), 4)

    nested, parts = of("da3nested-giant-large"), [of("da3-giant"), of("da3metric-large")]
    for kind in ("trunk", "convolutions"):
        assert nested[kind] == sum(part[kind] for part in parts) > 0


def test_errors_are_in_the_units_that_they_name(gpu_network: ModuleType) -> None:
    extrinsics = torch.eye(4)[:3].repeat(1, 2, 1, 1)
    extrinsics[..., 3] = torch.tensor([0.0, 3.0, 4.0])
    exact = {
        "depth": torch.full((1, 2, 4, 4), 2.0),
        "depth_conf": torch.full((1, 2, 4, 4), 4.0),
        "extrinsics": extrinsics,
        "intrinsics": 100 * torch.eye(3).repeat(1, 2, 1, 1),
    }
    ours = {name: some.clone() for name, some in exact.items()}
    ours["depth"][0, 0, 0, 0] = 2.2
    ours["extrinsics"][0, 0, 0, 3] = 1.0
    ours["intrinsics"][0, 1, 0, 0] = 101
    angle = math.radians(0.01)
    ours["extrinsics"][0, 1, :2, :2] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    found = gpu_network.errors_by_kind(ours, exact)
    assert found["depth_relative"] == pytest.approx({"max": 0.1, "mean": 0.1 / 32})
    assert found["confidence_relative"] == {"max": 0.0, "mean": 0.0}
    assert found["rotation_deg"] == pytest.approx({"max": 0.01, "mean": 0.005}, rel=1e-3)
    assert found["translation_relative"] == pytest.approx({"max": 0.2, "mean": 0.1})
    assert found["focal_relative"] == pytest.approx({"max": 0.01, "mean": 0.0025})


def test_both_ends_of_the_video_are_compared(gpu_network: ModuleType) -> None:
    done = [
        gpu_network.ChunkDone(seconds=1.0 + index, new_frames=30, reserved_bytes=index, card_bytes=2 * index)
        for index in range(8)
    ]
    found = gpu_network.video_summary(done)
    assert found["frames_per_s"] == round(240 / 36, 2)
    assert found["max_process_on_card_bytes"] == 14
    assert found["first_quarter"]["max_reserved_bytes"] == 1
    assert found["last_quarter"] == {
        "seconds_per_chunk": 7.5,
        "max_reserved_bytes": 7,
        "max_process_on_card_bytes": 14,
    }


def test_one_model_replaces_all(gpu_network: ModuleType) -> None:
    work = gpu_network.workload("da3-base", small=False)
    assert {*work.parity_models, work.memory_model, *work.speed_models, work.long_model} == {"da3-base"}
    assert gpu_network.workload(None, small=False) == gpu_network.Workload()


def test_blas_products_replace_ours(cpu_network: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = load_network("tiny", weights="seeded:0"), torch.ones(1, 2, 3, 28, 42)
    for module in (linear, blocks, dense_head):
        monkeypatch.setattr(module, "linear", module.linear)  # put back after the test
    with torch.inference_mode():
        expected = network(images)["depth"]
        cpu_network.use_blas()
        assert {linear.linear, blocks.linear, dense_head.linear} == {blas_linear}
        torch.testing.assert_close(network(images)["depth"], expected)


def test_ratios_are_taken_round_by_round(cpu_network: ModuleType) -> None:
    def each(seconds: float) -> dict[str, float]:
        return {"seconds": seconds, "cpu_seconds": 2 * seconds, "peak_rss_bytes": 100}

    rounds = [{"a": each(1), "b": each(2)}, {"a": each(30), "b": each(40)}, {"a": each(9), "b": each(10)}]
    found = cpu_network.ratios(rounds, "a", "b")
    assert found["seconds_per_round"] == [0.5, 0.75, 0.9]
    assert (found["seconds"], found["cpu_seconds"], found["peak_rss_bytes"]) == (0.75, 0.75, 1)


@pytest.mark.slow
def test_the_cpu_script_runs() -> None:
    said = {"model": "tiny", "frames": 4, "height": 56, "width": 84, "threads": 1, "rounds": 1}
    options = [f"--{name}={value}" for name, value in said.items()]
    done = subprocess.run(
        [sys.executable, FOLDER / "cpu_network.py", *options], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    ours, published = found["cases"]["default"], found["cases"]["published-like"]
    assert not ours["settings"]["rays"]
    assert published["settings"] == {
        "views": 4,
        "head_views": 4,
        "heads": 4,
        "rays": True,
        "products": "BLAS",
    }
    assert 0 < ours["rss_before_forward_bytes"] < ours["peak_rss_bytes"]
    assert set(found["ratio_to_default"]) == set(found["cases"]) - {"default"}
    assert len(found["ratio_of_default_to_published_like"]["seconds_per_round"]) == 1
    assert "published_figures" not in found  # they are of another case
    assert found["reuse"]["kept_frames"] == 2
    assert found["reuse"]["largest_difference_of_depth"] < 1e-5


@pytest.mark.slow
def test_the_gpu_script_runs_with_torch_and_numpy_alone(tmp_path: Path) -> None:
    script = FOLDER / "gpu_network.py"
    options = ["--out", str(tmp_path), "--device", "cpu", "--model", "tiny", "--small", "--minutes", "5"]
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({FOREIGN!r}))  # importing any of them is an ImportError now
sys.argv = [{str(script)!r}, *{options!r}]
runpy.run_path({str(script)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu_network.json").read_text())
    assert found["end"] == {"failures": []}
    assert "no time left" not in json.dumps(found)
    assert found["parity"]["fixtures of the published network"]["ok"]
    assert found["parity"]["tiny: pieces change nothing"]["ok"]
    assert found["parity"]["tiny: reuse changes nothing"]["ok"]
    shorter = found["parity"]["tiny: shorter types"]["bfloat16 transformer, float32 heads"]
    assert 0 < shorter["depth_relative"]["mean"] < 0.02
    memory = [case for name, case in found["memory"].items() if name.startswith("tiny,")]
    assert len(memory) == 4
    assert all(case["finite"] and case["planned_allocated_bytes"] > 1e6 for case in memory)
    assert found["speed"]["tiny, 84 x 56, 4 frames"]["plain"]["frames_per_s"] > 0
    assert found["long"]["video"]["frames_done"] == found["long"]["video"]["frames_of_the_video"] == 30
