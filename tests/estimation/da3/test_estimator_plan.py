"""The estimator's plan of its memory, and what is built of the options that concern it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from da3stream import load_config
from da3stream.errors import ConfigError, DeviceMemoryError
from da3stream.estimation import estimator_on_demand
from da3stream.estimation.base import PlansMemory
from da3stream.estimation.da3.building import build_da3
from da3stream.estimation.da3.device import memory_budget
from da3stream.estimation.da3.estimator import DA3Estimator
from da3stream.estimation.da3.loading import load_network
from da3stream.estimation.memory import forward_memory
from tests.estimation.da3.small_networks import small_single_view

SIZE = (504, 280)
CPU = torch.device("cpu")


def built(**options: Any) -> DA3Estimator:
    config = load_config(None, {"model": "tiny", "weights": "seeded:0", "device": "cpu", **options})
    return build_da3(config, "tiny", lambda line: None)


def needed(frames: int) -> int:
    return forward_memory("tiny", SIZE, trunk_dtype=torch.float32).card_bytes(frames)


def budget_for(frames: int) -> str:
    """A little more than so many frames take."""
    return f"{needed(frames) / 2**20 + 0.5:.0f}MB"


def test_without_a_limit_there_is_no_plan() -> None:
    estimator = built()
    assert isinstance(estimator, PlansMemory)
    assert estimator.plan(SIZE, 60) is None


def test_the_plan_is_what_the_budget_holds() -> None:
    estimator = built(vram=budget_for(20))
    plan = estimator.plan(SIZE, None)
    assert plan is not None
    assert 20 <= plan.frames <= 22
    assert plan.planned_bytes <= plan.budget_bytes < needed(23)
    shorter = estimator.plan(SIZE, 5)
    assert shorter is not None
    assert shorter.frames == 5
    assert estimator.execution == shorter.execution


def test_a_chunk_that_cannot_be_is_refused() -> None:
    with pytest.raises(DeviceMemoryError, match="tiny does not fit"):
        built(vram="300MB").plan(SIZE, 60)


def test_a_model_beside_it_takes_its_share() -> None:
    network = load_network("tiny", weights="seeded:0")
    alone, beside = (
        DA3Estimator(network, device="cpu", name="tiny", budget_bytes=4 * 2**30, runs_beside=other)
        for other in (None, "tiny")
    )
    for estimator in (alone, beside):
        plan = estimator.plan(SIZE, 20)
        assert plan is not None
        assert plan.budget_bytes == 4 * 2**30
    other = forward_memory("tiny", SIZE, trunk_dtype=torch.float32).allocated_bytes(8)
    plans = [estimator.plan(SIZE, 20) for estimator in (alone, beside)]
    assert plans[1].planned_bytes - plans[0].planned_bytes == other  # type: ignore[union-attr]
    longest = [estimator.plan(SIZE, None).frames for estimator in (alone, beside)]  # type: ignore[union-attr]
    assert longest[1] < longest[0]


@pytest.mark.parametrize("metric", [None, "da3metric-large"])
def test_a_place_descriptor_beside_it_takes_its_share(
    monkeypatch: pytest.MonkeyPatch, metric: str | None
) -> None:
    """Through all that wraps the estimator, too."""
    build = "da3stream.estimation.da3.building."
    monkeypatch.setattr(f"{build}load_network", lambda model, **_: _small(model))
    options = {"model": "tiny", "weights": "seeded:0", "metric": metric, "device": "cpu", "vram": "4GB"}
    worker = estimator_on_demand("tiny", load_config(None, options), lambda line: None)
    plain, beside = (worker.plan(SIZE, 20, beside_bytes=taken) for taken in (0, 2**20))
    assert plain is not None
    assert beside is not None
    assert beside.planned_bytes - plain.planned_bytes == 2**20
    assert beside.budget_bytes == plain.budget_bytes == 4 * 2**30


def _small(model: str) -> Any:
    return small_single_view() if model == "da3metric-large" else load_network(model, weights="seeded:0")


def test_only_a_gpu_has_a_limit_of_its_own() -> None:
    assert memory_budget(CPU, None) is None
    assert memory_budget(CPU, 123) == 123


def test_a_metric_network_comes_beside_any_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def small(model: str, **options: Any) -> Any:
        asked.append((model, options["weights"]))
        return small_single_view() if model == "da3metric-large" else load_network(model, **options)

    monkeypatch.setattr("da3stream.estimation.da3.building.load_network", small)
    options = {"model": "tiny", "weights": "seeded:0", "metric": "da3metric-large", "device": "cpu"}
    worker = estimator_on_demand("tiny", load_config(None, options), lambda line: None)
    assert (worker.name, worker.is_metric) == ("tiny+da3metric-large", True)
    images = np.random.default_rng(0).integers(0, 255, (4, 28, 42, 3), dtype=np.uint8)
    prediction = worker.estimate(images, indices=np.arange(4))
    assert prediction.is_metric
    assert asked == [("tiny", "seeded:0"), ("da3metric-large", "seeded:0")]
    assert worker.weights == {"estimator": {"seed": 0}, "metric": {"seed": 0}}


def test_a_metric_model_needs_no_other() -> None:
    with pytest.raises(ConfigError, match="in metres already"):
        load_config(None, {"model": "da3nested-giant-large", "metric": "da3metric-large"})


@pytest.mark.parametrize(
    ("text", "gibibytes"), [("12GB", 12), ("12", 12), ("12 GiB", 12), ("512MB", 0.5), ("7.5g", 7.5)]
)
def test_amounts_of_memory(text: str, gibibytes: float) -> None:
    assert load_config(None, {"vram": text}).vram_bytes == gibibytes * 2**30


@pytest.mark.parametrize("text", ["", "lots", "12PB", "-3GB", "0GB"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(ConfigError, match="vram: Input should be an amount such as 10GB"):
        load_config(None, {"vram": text})
