"""`export` with other options than the run's, and what remembers them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pycolmap
import pytest
from click.testing import CliRunner
from plyfile import PlyData

import da3stream
from da3stream import load_config, pipeline
from da3stream.cli import cli
from da3stream.errors import ConfigError
from da3stream.synthetic.capture import SimulatedEstimator, SimulatedSource, SimulatedWorld
from da3stream.synthetic.paths import street_laps

FRAMES = 24
OWN = {"chunk_size": 12, "coarse": 0, "loop": False, "export": "pcd,colmap", "max_points": 4000}
OWN |= {"colmap_points": "dense"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    world = SimulatedWorld(street_laps(FRAMES), seed=7, size=(28, 84), hfov_deg=82)
    estimator = SimulatedEstimator(world, 1, 0.0)
    da3stream.reconstruct(
        SimulatedSource(world), tmp_path / "run", config=load_config(None, OWN), estimator=estimator
    )
    return tmp_path / "run"


def points(run: Path) -> int:
    return len(PlyData.read(run / "pcd" / "combined_pcd.ply")["vertex"])


def camera_models(run: Path) -> list[str]:
    model = pycolmap.Reconstruction(run / "colmap" / "sparse" / "0")
    return [camera.model.name for camera in model.cameras.values()]


def recorded(run: Path) -> Any:
    return json.loads((run / "run.json").read_text()).get("output_options")


def test_an_option_changes_the_output_and_run_json_says_so(run: Path) -> None:
    assert points(run) == 4000
    assert recorded(run) is None
    da3stream.export(run, ("pcd",), options={"max_points": 700})
    assert points(run) == 700
    assert recorded(run) == {"pcd": {"max_points": 700}}
    assert json.loads((run / "run.json").read_text())["config"]["max_points"] == 4000, "the run's stay"


def test_the_next_export_begins_with_the_options_of_the_run(run: Path) -> None:
    before = (run / "pcd" / "combined_pcd.ply").read_bytes()
    da3stream.export(run, ("pcd", "tum"), options={"max_points": 700})
    da3stream.export(run, ("pcd",))
    assert (run / "pcd" / "combined_pcd.ply").read_bytes() == before
    assert recorded(run) == {"tum": {"max_points": 700}}
    da3stream.export(run, ("tum",), options={"max_points": 4000})
    assert recorded(run) == {}, "what is as usual is not worth a line"


def test_align_keeps_the_options_of_each_output(run: Path) -> None:
    da3stream.export(run, ("pcd",), options={"max_points": 700})
    da3stream.export(run, ("colmap",), options={"camera_model": "OPENCV"})
    pipeline.align(run, scale=2.0)
    assert points(run) == 700
    assert camera_models(run) == ["OPENCV"]
    assert recorded(run) == {"colmap": {"camera_model": "OPENCV"}, "pcd": {"max_points": 700}}


def test_the_command_line_has_the_same_options(run: Path) -> None:
    arguments = ["export", str(run), "--to", "colmap", "--per-frame-cameras", "--colmap-images", "5"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert camera_models(run) == ["PINHOLE"] * 5
    assert recorded(run) == {"colmap": {"colmap_images": 5, "per_frame_cameras": True}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_size": 30}, "chunk_size cannot be chosen"),
        ({"keep": "full"}, "keep cannot be chosen"),
        ({"max_point": 30}, "max_point cannot be chosen"),
        ({"max_points": 0}, "max_points"),
        ({"refine": "ba"}, "leave out colmap_points dense"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    run: Path, options: dict[str, Any], message: str
) -> None:
    before = (run / "run.json").read_bytes()
    with pytest.raises(ConfigError, match=message):
        da3stream.export(run, ("pcd",), options=options)
    assert (run / "run.json").read_bytes() == before


def test_the_help_offers_no_option_that_the_run_has_settled() -> None:
    text = CliRunner().invoke(cli, ["export", "--help"]).output
    assert "--refine" in text
    assert "the run's" in text
    assert "--chunk-size" not in text
    assert "--keep [" not in text
