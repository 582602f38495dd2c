"""`da3stream weights bench`: what it reports, never how fast."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from da3stream.cli import cli
from da3stream.cli.weights import _bench_models
from da3stream.errors import ConfigError, EstimationError
from da3stream.estimation.da3.bench import BenchCase, BenchResult, Measurement, measure

REAL = ("tiny", "--size", "42x28", "--frames", "2", "--device", "cpu")


def bench(*arguments: str | Path) -> str:
    ended = CliRunner().invoke(cli, ["weights", "bench", *map(str, arguments)], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def pretended(case: BenchCase) -> BenchResult:
    """A measurement that costs nothing; the base model does not fit."""
    if case.model == "da3-base":
        return BenchResult(case=case, measured=None, failure="out of memory")
    measured = Measurement(
        hardware="some GPU",
        torch="2",
        trunk_dtype="bfloat16",
        seconds=0.5,
        frames_per_s=case.frames / 0.5,
        peak_bytes=3 << 30,
        reserved_bytes=4 << 30,
    )
    return BenchResult(case=case, measured=measured, failure=None)


def test_a_real_measurement() -> None:
    """The peak is that of the measuring process: not of this one, which started it and is larger."""
    ballast = bytearray(b"\1") * (800 << 20)
    (found,) = json.loads(bench(*REAL, "--json"))
    assert [found[name] for name in ("model", "weights", "device")] == ["tiny", "seeded:0", "cpu"]
    assert (found["width_px"], found["height_px"], found["frames"]) == (42, 28, 2)
    assert found["trunk_dtype"] == "float32"
    assert found["hardware"].startswith("cpu, ")
    assert found["frames_per_s"] == pytest.approx(2 / found["seconds"])
    assert 50e6 < found["peak_bytes"] < len(ballast)
    assert found["reserved_bytes"] is None


def test_if_nothing_can_be_measured_the_reason_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(
        EstimationError, match="nothing could be measured; got no model and no file is called"
    ):
        bench(*REAL, "--weights", tmp_path / "nowhere")


def test_the_table_has_a_line_for_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("da3stream.estimation.da3.bench.measure", pretended)
    models = ("da3-small", "da3-base", "--device", "cpu")
    printed = bench(*models, "--size", "504x280", "--size", "28x28", "--frames", "8,16")
    title, header, *rows = printed.splitlines()
    assert title == "weights: seeded:0"
    assert header.split() == ["model", "size", "frames", "type", "seconds", "frames/s", "memory"]
    cases = [row.split()[:3] for row in rows]
    assert cases == [
        [model, size, frames]
        for model in models[:2]
        for size in ("504x280", "28x28")
        for frames in ("8", "16")
    ]
    assert " ".join(rows[1].split()[3:]) == "bfloat16 0.5 32 3.00 GiB (4.00 reserved), some GPU"
    assert rows[4].endswith("out of memory")


def test_a_process_that_dies_is_a_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    killer = tmp_path / "python"
    killer.write_text("#!/bin/sh\nkill -9 $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killer))
    case = BenchCase(model="tiny", weights="seeded:0", device="cpu", width_px=28, height_px=28, frames=1)
    result = measure(case)
    assert result.measured is None
    assert result.to_dict()["failure"] == "the process was killed by signal 9 (9: out of memory, most likely)"


def test_small_models_are_the_default_on_a_cpu() -> None:
    assert _bench_models((), "cpu") == ["da3-small", "da3-base"]
    assert _bench_models(("DA3-LARGE-1.1", "tiny"), "cpu") == ["da3-large", "tiny"]
    with pytest.raises(ConfigError, match="no such DA3 model"):
        _bench_models(("da4",), "cpu")


@pytest.mark.parametrize("options", [["--size", "504"], ["--size", "504x281"], ["--frames", "0"]])
def test_wrong_usage(options: list[str]) -> None:
    assert CliRunner().invoke(cli, ["weights", "bench", "tiny", *options]).exit_code == 2
