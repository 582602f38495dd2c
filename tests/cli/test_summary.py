"""What a run says at its end, and `da3stream info` of a run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import da3stream
from da3stream import Result, load_config
from da3stream.cli import main
from da3stream.cli.summary import chunks_and_loops, print_summary
from da3stream.store.manifest import encode_manifest
from da3stream.synthetic.capture import (
    SimulatedDescriptor,
    SimulatedEstimator,
    SimulatedSource,
    SimulatedWorld,
)
from da3stream.synthetic.paths import street_laps

MANIFEST: dict[str, Any] = {
    "chunks": 12,
    "coarse_chunks": 1,
    "place": "vlad",
    "loops": 3,
    "loops_rejected": 5,
    "loop_rejections": {"the two places hardly see the same surfaces": 4, "it is Tuesday": 1},
}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A street that is driven twice."""
    world = SimulatedWorld(street_laps(120, lap_frames=60), seed=7, size=(14, 42), hfov_deg=82)
    return da3stream.reconstruct(
        SimulatedSource(world),
        tmp_path_factory.mktemp("run") / "run",
        config=load_config(None, {"colmap_points": "dense", "chunk_size": 16, "overlap": 8, "coarse": 4}),
        estimator=SimulatedEstimator(world, seed=3, level=0.3),
        descriptor=SimulatedDescriptor(world),
    )


def info(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    main(["info", *map(str, arguments)])
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {},
            [
                "12 chunks, 1 coarse one",
                "3 loops closed, 5 rejected (4 because the two places hardly see the same surfaces), "
                "places described by vlad",
            ],
        ),
        (
            {"coarse_chunks": 0, "loops": 0, "loops_rejected": 0, "loop_rejections": {}, "place": "salad"},
            ["12 chunks, no coarse ones", "no loops closed, none rejected, places described by salad"],
        ),
        (
            {"chunks": 1, "place": "none", "loops_rejected": 0, "loop_rejections": {}},
            ["1 chunk, 1 coarse one", "no loops were looked for"],
        ),
    ],
)
def test_chunks_and_loops_in_two_lines(changes: dict[str, Any], lines: list[str]) -> None:
    assert chunks_and_loops(MANIFEST | changes) == lines


def test_a_run_without_counts_has_no_such_lines() -> None:
    assert chunks_and_loops({"status": "running", "place": "vlad"}) == []


def test_the_manifest_counts_what_the_loop_file_lists(result: Result) -> None:
    manifest = json.loads((result.output / "run.json").read_text())
    loops = json.loads((result.output / "loop_closures.json").read_text())["loops"]
    closed = [loop for loop in loops if loop["accepted"]]
    assert manifest["loops"] == len(closed) > 0
    assert manifest["loops_rejected"] == len(loops) - len(closed)
    assert manifest["coarse_chunks"] > 0


def test_the_summary_names_loops_and_files(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(result, as_json=False)
    shown = capsys.readouterr().out
    manifest = json.loads((result.output / "run.json").read_text())
    assert f"{manifest['chunks']} chunks, {manifest['coarse_chunks']} coarse one" in shown
    assert f"{manifest['loops']} loops closed" in shown
    assert "places described by simulated" in shown
    for name in ("loop_closures.txt", "loop_closures.json", "trajectory.png"):
        assert f"  {result.output / name}  " in shown


def test_the_summary_for_machines_has_the_counts(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(result, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    manifest = json.loads((result.output / "run.json").read_text())
    for name in MANIFEST:
        assert shown[name] == manifest[name]


def test_info_of_a_run_says_what_came_out(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    shown = info(capsys, result.output)
    manifest = json.loads((result.output / "run.json").read_text())
    for words in (
        "run          finished",
        "input        a source object",
        "frames       120",
        *chunks_and_loops(manifest),
        str(result.output / "trajectory.png"),
    ):
        assert words in shown
    assert json.loads(info(capsys, result.output, "--json")).items() <= manifest.items()


def test_info_of_a_run_that_goes_on(
    result: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((result.output / "run.json").read_text())
    begun = {key: value for key, value in manifest.items() if key not in {*MANIFEST, "frames", "warnings"}}
    (tmp_path / "run.json").write_bytes(encode_manifest(begun | {"status": "running"}))
    shown = info(capsys, tmp_path)
    assert "not finished" in shown
    assert "da3stream resume" in shown
