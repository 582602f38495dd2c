"""The command line as a user meets it, in processes of its own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from click.testing import CliRunner

from da3stream.cli import _explain_import, cli
from da3stream.config import Config, preset_names
from da3stream.config.model import ExportName
from da3stream.synthetic.demo_video import demo_capture
from da3stream.synthetic.video import encode_video

ROOT = Path(__file__).resolve().parents[2]

TERMINAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
from da3stream.cli import main
main()
"""


def da3stream(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "da3stream", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def write_video(path: Path, frames: int) -> None:
    """The first frames of the demo."""
    capture = demo_capture()
    encode_video(path, itertools.islice(capture.images(), frames), capture.fps)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "walk.mp4"
    write_video(path, 20)
    return path


def test_help_teaches() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    for command in ("run", "resume", "export", "align", "eval", "info", "demo", "weights"):
        assert command in shown
    options = CliRunner().invoke(cli, ["run", "--help"]).output
    for name in Config.model_fields:
        assert f"--{name.replace('_', '-')}" in options
    for preset in preset_names():
        assert preset in options


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "x", "-o", "y", "--no-such-option"],
        ["run", "x", "-o", "y", "--keep", "some"],
        ["run", "x", "-o", "y", "--resume", "--overwrite"],
        ["nothing"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    ended = da3stream(*arguments)
    assert ended.returncode == 2
    assert "Usage:" in ended.stderr


def test_a_known_error_is_one_line_and_exit_status_1(tmp_path: Path) -> None:
    for arguments in (
        ["run", tmp_path / "missing.mp4", "-o", tmp_path / "run"],
        ["info", tmp_path / "missing.mp4"],
        ["resume", tmp_path],
        ["export", tmp_path, "--to", "tum"],
        ["run", tmp_path, "-o", tmp_path / "run", "--overlap", "59"],
        ["run", tmp_path, "-o", tmp_path / "run", "--intrinsics", "1,2"],
        ["run", tmp_path, "-o", tmp_path / "run", "--config", "no-such-preset"],
    ):
        ended = da3stream(*arguments)
        assert ended.returncode == 1, arguments
        assert ended.stderr.startswith("error: "), ended.stderr
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert not (tmp_path / "run").exists()


def test_info(video: Path) -> None:
    shown = json.loads(da3stream("info", video, "--json").stdout)
    assert (shown["frames"], shown["codec"]) == (20, "h264")
    assert f"{shown['width']} x {shown['height']} px" in da3stream("info", video).stdout


def test_a_missing_system_library_names_its_package() -> None:
    lacking = ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
    assert "apt-get install libgl1 libglib2.0-0" in _explain_import(lacking)
    assert "sudo apt-get install" in (ROOT / "README.md").read_text()
    with pytest.raises(ImportError):
        _explain_import(ImportError("No module named 'numpy.bogus'"))


def test_help_of_export_names_every_format() -> None:
    shown = CliRunner().invoke(cli, ["export", "--help"]).output
    names = {word.strip(",.()") for word in shown.split()}
    assert names >= {*get_args(ExportName), "results"}


def test_run_export_and_refusals(video: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--every", "2", "--resolution", "252", "--colmap-points", "dense")
    ended = da3stream("run", video, "-o", run, *options, "--json")
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert lines[-1]["stage"] == "result"
    assert lines[-1]["frames"] == 10
    assert any("classical" in line.get("message", "") for line in lines)
    poses = np.loadtxt(run / "camera_poses.txt")
    assert poses.shape == (10, 16)
    assert np.isfinite(poses).all()

    again = da3stream("run", video, "-o", run, *options)
    assert again.returncode == 1
    assert "--resume" in again.stderr
    (run / "trajectory_kitti.txt").unlink()
    exported = da3stream("export", run, "--to", "kitti")
    assert exported.returncode == 0
    assert f"kitti written to {run}" in exported.stdout
    assert da3stream("export", run, "--to", ",").returncode == 2
    assert np.loadtxt(run / "trajectory_kitti.txt").shape == (10, 12)
    assert da3stream("export", run, "--to", "kitti,nonsense").returncode == 1
    assert "10 frames" in da3stream("resume", run).stdout


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_resume_finishes(tmp_path: Path) -> None:
    video, run = tmp_path / "walk.mp4", tmp_path / "run"
    write_video(video, 30)
    options = [
        "--select",
        "all",
        "--resolution",
        "252",
        "--chunk-size",
        "8",
        "--intrinsics",
        "480,480,320,180",
    ]
    command = [sys.executable, "-c", TERMINAL, "run", str(video), "-o", str(run), "--json", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if json.loads(line).get("chunk") == 2:
            break
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    errors = process.stderr.read()
    process.stdout.read()
    assert process.wait(timeout=60) == 130, errors
    assert f"da3stream resume {run}" in errors
    assert "Traceback" not in errors
    resumed = da3stream("resume", run, "--json")
    assert resumed.returncode == 0, resumed.stderr
    steps = [json.loads(line) for line in resumed.stdout.splitlines()]
    estimated = [step for step in steps if step["stage"] == "estimation" and not step.get("message")]
    assert [step["reused"] for step in estimated[:2]] == [True, True]
    assert not estimated[-1]["reused"]
    assert np.loadtxt(run / "camera_poses.txt").shape == (30, 16)
