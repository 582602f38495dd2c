"""What a user reads who types something wrong, or asks for help: flags, folders and ways on, by name."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import da3stream
from da3stream import Result, load_config
from da3stream.cli import cli, main
from da3stream.config import Config
from da3stream.errors import RunIncompleteError
from da3stream.store import read_manifest
from da3stream.store.manifest import encode_manifest
from da3stream.synthetic.capture import SimulatedEstimator, SimulatedSource, SimulatedWorld
from da3stream.synthetic.paths import street_laps
from da3stream.synthetic.video import encode_video


def ended(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    capsys.readouterr()
    try:
        main([str(argument) for argument in arguments])
        status: Any = 0
    except SystemExit as error:
        status = error.code or 0
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line of error of a command that ends with status 1."""
    status, _, errors = ended(capsys, *arguments)
    assert status == 1, errors
    assert errors.startswith("error: ")
    assert len(errors.splitlines()) == 1, errors
    return errors.removeprefix("error: ").strip()


def help_of(*command: str) -> str:
    """The help of a command, every option on a line."""
    shown = CliRunner().invoke(cli, [*command, "--help"], terminal_width=10_000).output
    return re.sub(r"\n {10,}", " ", shown)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Result:
    world = SimulatedWorld(street_laps(40, lap_frames=40), seed=7, size=(14, 42), hfov_deg=82)
    config = {"chunk_size": 16, "overlap": 8, "coarse": 0, "colmap_points": "dense", "place": "none"}
    return da3stream.reconstruct(
        SimulatedSource(world),
        tmp_path_factory.mktemp("runs") / "my run",
        config=load_config(None, config),
        estimator=SimulatedEstimator(world, seed=3),
    )


@pytest.fixture(scope="module")
def kept_nothing(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run with --keep none."""
    world = SimulatedWorld(street_laps(40, lap_frames=40), seed=7, size=(14, 42), hfov_deg=82)
    config = {"chunk_size": 16, "coarse": 0, "export": "poses", "place": "none", "keep": "none"}
    return da3stream.reconstruct(
        SimulatedSource(world),
        tmp_path_factory.mktemp("small") / "small run",
        config=load_config(None, config),
        estimator=SimulatedEstimator(world, seed=3),
    )


def with_manifest(finished: Result, folder: Path, **changes: Any) -> Path:
    """A copy of the run whose run.json says something else."""
    copy = folder / "my run"
    shutil.copytree(finished.output, copy)
    (copy / "run.json").write_bytes(encode_manifest(read_manifest(copy) | changes))
    return copy


# Options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--max-frames", "0"), "--max-frames: Input should be greater than or equal to 1, got 0"),
        (("--fps", "5", "--every", "2"), "--fps and --every exclude each other"),
        (("--start", "2:00", "--end", "1:30"), "--end (90.0) must be greater than --start (120.0)"),
        (("--start", "-1"), "--start: Input should be greater than or equal to 0, got -1.0"),
        (("--start", "1:70"), "--start: Input should be seconds or [h:]mm:ss[.f]"),
        (("--start", "1_0"), "--start: Input should be seconds or [h:]mm:ss[.f]"),
        (("--start", f"{'9' * 400}:00:00"), "--start: Input should be a finite number"),
        (("--disk", "9" * 400), "--disk: Input should be an amount such as 10GB"),
        (("--disk", "1_0"), "--disk: Input should be an amount such as 10GB"),
        (("--voxel-size", "1_0"), "--voxel-size: Input should be a number greater than 0"),
        (("--end", "soon"), "--end: Input should be seconds or [h:]mm:ss[.f]"),
        (("--disk", "ten"), "--disk: Input should be an amount such as 10GB"),
        (("--vram", "-3"), "--vram: Input should be an amount such as 10GB"),
        (("--chunk-size", "0"), "--chunk-size: Input should be a valid integer greater than or equal to 3"),
        (("--overlap", "59"), "--overlap (59) must be at most 58, two less than --chunk-size"),
        (("--export", "poses,stl"), "--export: Input should be 'poses'"),
        (("--coarse", "1"), "--coarse must be 0"),
        (("--distortion", "0.1,0,0,0"), "--distortion needs --intrinsics"),
        (("--pose-prior-sigma", "1"), "--pose-prior-sigma is that of priors; add --poses-as prior"),
        (("--refine", "ba", "--colmap-points", "both"), "--refine ba moves points with tracks only"),
    ],
)
def test_an_error_names_the_flag(
    options: tuple[str, ...], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint in refused(capsys, "run", tmp_path, "-o", tmp_path / "run", *options)


def test_what_a_file_says_wrong_is_named_with_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "walk.yaml"
    file.write_text("max_frames: 0\nfps: 5\n")
    said = refused(capsys, "run", tmp_path, "-o", tmp_path / "run", "--config", file, "--chunk-size", "2")
    assert f"max_frames in {file}: Input should be" in said
    assert "--chunk-size: Input should be" in said
    file.write_text("fps: 5\n")
    said = refused(capsys, "run", tmp_path, "-o", tmp_path / "run", "--config", file, "--every", "2")
    assert f"fps in {file} and --every exclude each other" in said
    file.write_text("max-frames: 5\n")
    said = refused(capsys, "run", tmp_path, "-o", tmp_path / "run", "--config", file)
    assert f"unknown option 'max-frames' in {file}, did you mean 'max_frames'?" in said


def test_options_of_other_commands_are_named_as_flags(
    finished: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--max-points: Input" in refused(
        capsys, "export", finished.output, "--to", "pcd", "--max-points", "0"
    )
    run = with_manifest(finished, tmp_path, input=str(tmp_path / "gone.mp4"), status="running")
    assert "--disk: Input should be an amount" in refused(capsys, "resume", run, "--disk", "ten")
    said = refused(capsys, "intrinsics", tmp_path / "walk.mp4", "--start", "1:2:3:4")
    assert said.startswith("--start: Input should be seconds or [h:]mm:ss[.f]")
    assert "got '1:2:3:4'" in said
    video = tmp_path / "walk.mp4"
    encode_video(video, (np.full((48, 64, 3), value, np.uint8) for value in range(4)), 10)
    run = with_manifest(finished, tmp_path / "other", input=str(video), model="classical")
    said = refused(capsys, "run", video, "-o", run, "--model", "classical", "--resume", "--max-points", "7")
    assert "--max-points (was 10000000, now 7)" in said
    status, _, errors = ended(capsys, "plan", "--vram", "ten")
    assert (status, "--vram" in errors, "such as 10GB" in errors) == (2, True, True)
    status, _, errors = ended(capsys, "plan", "--vram", "9" * 400)
    assert (status, "--vram" in errors, "such as 10GB" in errors) == (2, True, True)


def test_times_and_sizes_are_explained_in_the_help() -> None:
    for command, option in (("run", "start"), ("run", "end"), ("intrinsics", "start")):
        line = next(line for line in help_of(command).splitlines() if f"--{option} TIME" in line)
        assert "[h:]mm:ss[.f]" in line
    for command, option in (("run", "vram"), ("run", "disk"), ("resume", "disk"), ("plan", "vram")):
        line = next(line for line in help_of(command).splitlines() if f"--{option} SIZE" in line)
        assert "a bare number counts GB" in line, line


@pytest.mark.parametrize("name", list(Config.model_fields))
def test_every_option_tells_its_default(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    line = next(line for line in help_of("run").splitlines() if re.match(rf"  {flag}\b", line))
    assert re.search(r"\[default: [^\]]", line), line


@pytest.mark.parametrize(
    "command", ["run", "resume", "export", "align", "eval", "info", "plan", "depth", "intrinsics", "demo"]
)
def test_no_default_is_shown_as_nothing(command: str) -> None:
    assert not re.search(r"\[default: (\"\"|''|None|, .*)?\]", help_of(command))


def test_models_for_tests_are_not_offered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "depth", "plan", "intrinsics", "weights"):
        assert "tiny" not in help_of(command)
    said = refused(capsys, "run", tmp_path, "-o", tmp_path / "run", "--model", "best")
    assert "--model: Input should be 'auto', 'classical', 'da3-small'" in said
    assert "got 'best'" in said
    assert "tiny" not in said
    (tmp_path / "a.jpg").touch()
    assert "tiny" not in refused(
        capsys, "depth", tmp_path / "a.jpg", "-o", tmp_path / "depth", "--model", "best"
    )
    assert "tiny" not in refused(capsys, "plan", "--model", "best")


@pytest.mark.parametrize("scale", ["1e-30", "nan", "inf", "-1", "0", "1e7"])
def test_a_scale_that_nobody_means_is_refused(
    scale: str, finished: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "align", finished.output, "--scale", scale)
    assert "--scale" in said
    assert "1e-06 to 1e+06" in said
    said = refused(capsys, "align", finished.output, "--known-distance", "0", "9", scale)
    assert "--known-distance" in said


# Runs ---------------------------------------------------------------------------------------------------


def test_hints_name_the_run_so_that_they_can_be_pasted(
    finished: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = with_manifest(finished, tmp_path, status="running")
    again = f"da3stream resume '{run}'"
    for command in (
        ("export", run, "--to", "tum"),
        ("align", run, "--up", "gravity"),
        ("eval", run, "--gt", run),
    ):
        assert again in refused(capsys, *command)
    assert again in ended(capsys, "info", run)[1]
    (run / "journal.jsonl").write_bytes((run / "journal.jsonl").read_bytes()[:1] + b"x\n{}\n{}\n")
    assert again in refused(capsys, "report", run)


def test_an_error_from_below_learns_which_run_it_is_about(
    finished: Result, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from da3stream.errors import RESUME, ProcessLostError

    def lost(*_: object, **__: object) -> None:
        raise ProcessLostError("it was killed", hint=f"Go on with: {RESUME}.")

    monkeypatch.setattr("da3stream.pipeline.write_outputs", lost)
    said = refused(capsys, "export", finished.output, "--to", "tum")
    assert said == f"it was killed. Go on with: da3stream resume '{finished.output}'."
    assert str(RunIncompleteError("x", hint=f"Do {RESUME}")) == "x. Do da3stream resume RUN"


def test_resuming_a_finished_run_needs_no_input(
    finished: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = with_manifest(finished, tmp_path, input=str(tmp_path / "gone.mp4"))
    status, shown, errors = ended(capsys, "resume", run)
    assert (status, errors) == (0, "")
    assert "finished already: 40 frames" in shown
    for command in ("view", "export", "eval"):
        assert f"da3stream {command} '{run}'" in shown
    status, shown, _ = ended(capsys, "resume", run, "--json", "--disk", "7")
    assert (status, '"frames": 40' in shown) == (0, True)
    assert read_manifest(run)["config"]["disk"] == "7GB"
    (run / "trajectory.safetensors").unlink()
    assert "gone.mp4" in refused(capsys, "resume", run)


@pytest.mark.parametrize("command", ["info", "resume"])
def test_what_is_recommended_for_a_run_that_keeps_nothing_works(
    command: str, kept_nothing: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    run = kept_nothing.output
    status, shown, _ = ended(capsys, command, run)
    assert status == 0
    lines = re.findall("da3stream .*", shown)
    assert lines == [f"da3stream eval '{run}' --gt FILE"]
    for line in lines:
        words = [str(run) if word == "FILE" else word for word in shlex.split(line)]
        status, shown, _ = ended(capsys, *words[1:])
        assert (status, "associated frames" in shown) == (0, True)


@pytest.mark.parametrize(
    ("option", "verb", "instead"),
    [
        (("--view",), "watch", "da3stream view {}"),
        (("--publish", "tcp://127.0.0.1:9"), "publish", "da3stream export {} --to rerun"),
        (("--rerun", "live.rrd"), "log", "da3stream export {} --to rerun"),
    ],
)
def test_of_a_finished_run_nothing_is_left_to_be_told_as_it_comes(
    option: tuple[str, ...],
    verb: str,
    instead: str,
    finished: Result,
    kept_nothing: Result,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = with_manifest(finished, tmp_path, input=str(tmp_path / "gone.mp4"))
    status, shown, errors = ended(capsys, "resume", run, *option)
    assert (status, "finished already: 40 frames" in shown) == (0, True)
    way_on = instead.format(f"'{run}'")
    why = f"{option[0]}: the run has finished, nothing is left to {verb}"
    assert errors == f"{why}; what came out: {way_on}\n"
    status, shown, errors = ended(capsys, "resume", kept_nothing.output, *option)
    assert (status, errors) == (0, f"{why}; and it was made with --keep none\n")


def test_resuming_a_finished_run_names_outputs_that_have_changed(
    finished: Result, kept_nothing: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = with_manifest(finished, tmp_path)
    (run / "trajectory_tum.txt").write_text("edited")
    (run / "cameras.json").unlink()
    again = "is not as it was written; `da3stream export` writes it again"
    errors = ended(capsys, "resume", run)[2].splitlines()
    assert errors == [f"cameras.json {again}", f"trajectory_tum.txt {again}"]
    small = tmp_path / "small run"
    shutil.copytree(kept_nothing.output, small)
    (small / "camera_poses.txt").unlink()
    assert ended(capsys, "resume", small)[2] == "camera_poses.txt is not as it was written\n"


def test_resuming_a_finished_run_removes_recorded_images_that_a_kill_has_left(
    finished: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = with_manifest(finished, tmp_path)
    (run / "recorded").mkdir()
    (run / "recorded" / "000000.zip").write_bytes(b"images")
    assert ended(capsys, "resume", run)[0] == 0
    assert not (run / "recorded").exists()


def test_a_finished_run_of_a_source_object_needs_no_object(
    finished: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    status, shown, _ = ended(capsys, "resume", finished.output)
    assert (status, "finished already" in shown) == (0, True)


def test_info_of_a_run_says_how_much_and_what_next(
    finished: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, shown, _ = ended(capsys, "info", finished.output)
    for words in ("finished", "simulated", "frames       40, processed at 126 x 42 px", " MB on the disk"):
        assert words in shown
    for command in ("view", "report", "export"):
        assert f"da3stream {command} '{finished.output}'" in shown
    run = with_manifest(finished, tmp_path, status="running")
    assert "frames       40 so far" in ended(capsys, "info", run)[1]


def test_info_of_a_folder_of_runs_lists_them(finished: Result, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "info", finished.output.parent)
    assert "holds no image" in said
    assert f"There is a run in it: da3stream info '{finished.output}'" in said


def test_a_folder_that_is_no_run_is_not_offered_to_be_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    said = refused(capsys, "run", tmp_path / "photos", "-o", tmp_path / "photos")
    assert "is not empty and no run directory" in said
    assert "--resume" not in said
    said = refused(capsys, "run", tmp_path / "photos", "-o", tmp_path / "photos" / "a.jpg" / "run")
    assert f"{tmp_path / 'photos' / 'a.jpg'} is a file" in said


def test_a_run_directory_is_no_folder_of_images(
    finished: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (finished.output / "trajectory.png").exists()
    said = refused(capsys, "run", finished.output, "-o", tmp_path / "again")
    assert (
        f"is a run directory, no folder of images. To go on with it: da3stream resume '{finished.output}'"
        in said
    )
