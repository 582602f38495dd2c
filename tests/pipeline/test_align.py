"""`align`: a run that came out tilted and in no unit comes out upright and in metres, in all its outputs."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from click.testing import CliRunner
from plyfile import PlyData
from scipy.spatial.transform import Rotation

import da3stream
from da3stream import disk, load_config, pipeline
from da3stream.cli import cli
from da3stream.errors import ConfigError, MissingDependencyError, RunIncompleteError, StoreError
from da3stream.geometry.sim3 import Sim3
from da3stream.store.journal import Journal
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld
from da3stream.synthetic.paths import street_laps
from da3stream.world_frame import KnownDistance, ScenePoint
from da3stream.writers.tum import TumWriter

from .doubles import CountingEstimator

FRAMES = 40
TILT = Rotation.from_euler("xz", [-12, 7], degrees=True).as_matrix()
"""How the camera is mounted: it looks down, and it leans."""


@pytest.fixture(scope="module")
def tilted() -> SimulatedWorld:
    poses = street_laps(FRAMES)
    poses[:, :3, :3] @= TILT
    return SimulatedWorld(poses, seed=7, size=(28, 84), hfov_deg=82)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tilted: SimulatedWorld) -> Path:
    """A run; TUM was exported later."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    formats = ("poses", "cameras", "loops", "trajectory", "pcd", "colmap")
    options = {"chunk_size": 16, "overlap": 8, "coarse": 0, "export": formats, "colmap_points": "dense"}
    config = load_config(None, options)
    source = SimulatedSource(tilted, magnification=2)
    da3stream.reconstruct(source, folder, config=config, estimator=CountingEstimator(tilted))
    da3stream.export(folder, ("tum",))
    return folder


@pytest.fixture
def run(tmp_path: Path, finished: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def between(start: str, end: str, metres: float = 2.0) -> KnownDistance:
    return KnownDistance(start=ScenePoint.parse(start), end=ScenePoint.parse(end), metres=metres)


def poses_of(run: Path) -> np.ndarray:
    return np.loadtxt(run / "camera_poses.txt").reshape(-1, 4, 4)


def points_of(run: Path) -> np.ndarray:
    table = PlyData.read(run / "pcd" / "combined_pcd.ply")["vertex"]
    return np.stack([table[axis] for axis in "xyz"], axis=-1).astype(np.float64)


def digests(run: Path) -> dict[str, str]:
    """Of all outputs but COLMAP's database, which has times in it."""
    outputs = ("camera_poses.txt", "camera_poses.ply", "intrinsic.txt", "trajectory_tum.txt", "cameras.json")
    outputs += ("loop_closures.json", "trajectory.png", "pcd/combined_pcd.ply", "trajectory.safetensors")
    outputs += ("colmap/sparse/0/images.bin", "colmap/sparse/0/points3D.bin")
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in outputs}


def tilt_deg(run: Path, world: SimulatedWorld) -> float:
    """Between true up and -y of the run's world."""
    turns = poses_of(run)[:, :3, :3] @ np.swapaxes(world.world_from_cam[: len(poses_of(run)), :3, :3], 1, 2)
    up = Rotation.from_matrix(turns).mean().as_matrix() @ [0, -1, 0]
    return float(np.degrees(np.arccos(np.clip(-up[1], -1, 1))))


def test_the_ground_sets_the_run_upright(run: Path, tilted: SimulatedWorld) -> None:
    assert tilt_deg(run, tilted) > 10
    pipeline.align(run, up="plane")
    assert tilt_deg(run, tilted) < 0.5
    ahead = poses_of(run)[0, :3, 2]
    assert ahead[0] == pytest.approx(0, abs=1e-9)
    assert ahead[2] > 0.9


def test_gravity_is_what_the_cameras_say(run: Path) -> None:
    pipeline.align(run, up="gravity")
    up = -poses_of(run)[:, :3, 1].mean(axis=0)
    assert np.allclose(up / np.linalg.norm(up), [0, -1, 0], atol=1e-9)


@pytest.mark.parametrize("request_", [{"up": "plane"}, {"scale": 2.5}, {"up": "plane", "scale": 0.3}])
def test_all_outputs_move_together(run: Path, request_: dict[str, Any]) -> None:
    poses, points = poses_of(run), points_of(run)
    alignment = pipeline.align(run, **request_)
    assert alignment is not None
    moved: Sim3 = alignment.world_from_run
    assert np.allclose(poses_of(run), moved.move_pose(poses), atol=1e-9)
    assert np.allclose(points_of(run), moved.apply(points), rtol=1e-5, atol=1e-4)
    assert np.allclose(np.loadtxt(run / "trajectory_tum.txt")[:, 1:4], poses_of(run)[:, :3, 3], atol=1e-8)
    cameras = json.loads((run / "cameras.json").read_text())
    assert np.allclose([frame["world_from_cam"] for frame in cameras["frames"]], poses_of(run))
    assert cameras["is_metric"] == ("scale" in request_)
    model = pycolmap.Reconstruction(run / "colmap" / "sparse" / "0")
    centres = [image.projection_center() for _, image in sorted(model.images.items())]
    assert np.allclose(centres, poses_of(run)[:, :3, 3], atol=1e-7)
    nearest = np.abs(
        np.stack([p.xyz for p in list(model.points3D.values())[:50]])[:, None] - points_of(run)[None]
    )
    assert nearest.max(axis=2).min(axis=1).max() < 1e-4  # they are points of the cloud
    assert np.allclose(da3stream_trajectory(run), poses_of(run))


def da3stream_trajectory(run: Path) -> np.ndarray:
    from da3stream.store import open_existing

    opened = open_existing(run)
    try:
        return opened.trajectory().world_from_cam
    finally:
        opened.close()


def test_the_distance_between_two_frames_comes_out_as_asked(run: Path) -> None:
    pipeline.align(run, known_distance=between("3", "30", 12.5), up="plane")
    centres = poses_of(run)[:, :3, 3]
    assert np.linalg.norm(centres[30] - centres[3]) == pytest.approx(12.5, rel=1e-9)
    assert json.loads((run / "run.json").read_text())["is_metric"] is True


def test_the_distance_between_two_pixels_makes_metres_of_the_truth(run: Path, tilted: SimulatedWorld) -> None:
    """Two places on the road, of which the world knows how far they are apart."""
    size, rows = np.array(tilted.size), []
    pixels = {5: (41.5, 51.5), 20: (111.5, 53.5)}
    for index, (x, y) in pixels.items():
        column, line = int(x) // 2, int(y) // 2
        assert line < size[0]
        depth = tilted.true_depth(index).depth[line, column]
        ray = np.linalg.solve(tilted.intrinsics, [x / 2, y / 2, 1.0])
        pose = tilted.world_from_cam[index]
        rows.append(pose[:3, :3] @ (ray * depth) + pose[:3, 3])
    metres = float(np.linalg.norm(rows[1] - rows[0]))
    start, end = (f"{frame}:{x},{y}" for frame, (x, y) in pixels.items())
    pipeline.align(run, known_distance=between(start, end, metres))
    path, truth = (
        np.linalg.norm(np.diff(poses[:FRAMES, :3, 3], axis=0), axis=1).sum()
        for poses in (poses_of(run), tilted.world_from_cam)
    )
    assert path == pytest.approx(truth, rel=0.05)  # the stored depth has a third of the pixels


def test_twice_is_once_and_what_is_not_said_stays(run: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(run, tmp_path / "again"))
    pipeline.align(run, up="plane", scale=2.0)
    once = digests(run)
    pipeline.align(run, up="plane", scale=2.0)
    assert digests(run) == once
    pipeline.align(again, scale=2.0)
    pipeline.align(again, up="plane")
    assert digests(again) == once


def test_reset_gives_back_what_came_out(run: Path) -> None:
    before = digests(run)
    pipeline.align(run, up="gravity", scale=3.0)
    assert digests(run) != before
    assert pipeline.align(run, reset=True) is None
    assert digests(run) == before
    assert json.loads((run / "run.json").read_text())["is_metric"] is False


def test_exports_after_it_are_aligned_too(run: Path) -> None:
    pipeline.align(run, up="plane", scale=2.0)
    before = digests(run)
    for name in ("pcd/combined_pcd.ply", "camera_poses.txt", "trajectory_tum.txt"):
        (run / name).unlink()
    da3stream.export(run, ("pcd", "poses", "tum"))
    assert digests(run) == before


@pytest.mark.parametrize("stop_at", [1, 2])
def test_killed_on_the_way_it_is_finished_by_resume(
    run: Path, tmp_path: Path, tilted: SimulatedWorld, stop_at: int
) -> None:
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    pipeline.align(whole, up="plane", scale=2.0)
    steps: list[da3stream.Progress] = []

    def stop(progress: da3stream.Progress) -> None:
        steps.append(progress)
        if len(steps) == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.align(run, up="plane", scale=2.0, progress=stop)
    with pytest.raises(RunIncompleteError, match="da3stream resume"):
        da3stream.export(run, ("poses",))
    config = load_config(None, json.loads((run / "run.json").read_text())["config"])
    estimator = CountingEstimator(tilted)
    source = SimulatedSource(tilted, magnification=2)
    da3stream.reconstruct(source, run, config=config, estimator=estimator, resume=True)
    assert estimator.chunks == []
    assert digests(run) == digests(whole)


def test_killed_before_it_is_recorded_it_is_as_if_nothing_was_said(
    run: Path, tilted: SimulatedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(run)

    def stop(self: Journal, event: str, **fields: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", stop)
        with pytest.raises(KeyboardInterrupt):
            pipeline.align(run, up="plane", scale=2.0)
    assert json.loads((run / "run.json").read_text())["status"] == "running"
    config = load_config(None, json.loads((run / "run.json").read_text())["config"])
    source = SimulatedSource(tilted, magnification=2)
    da3stream.reconstruct(source, run, config=config, estimator=CountingEstimator(tilted), resume=True)
    assert digests(run) == before


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ({}, "nothing to align"),
        ({"scale": -1.0}, "positive"),
        ({"scale": float("nan")}, "positive"),
        ({"scale": 1.0, "known_distance": between("0", "1")}, "exclude each other"),
        ({"known_distance": between("0", "1", 0.0)}, "positive"),
        ({"known_distance": between("0", "40")}, "no such frame; got 40; expected 0 to 39"),
        ({"known_distance": between("0", "0")}, "are the same"),
        ({"known_distance": between("0", "0:500,3")}, "not in the image; expected a pixel of 168 x 56"),
    ],
)
def test_what_cannot_be_is_one_error_and_changes_nothing(
    run: Path, request_: dict[str, Any], complaint: str
) -> None:
    before = digests(run)
    with pytest.raises(ConfigError, match=complaint):
        pipeline.align(run, **request_)
    assert digests(run) == before
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("text", ["a", "-1", "3:4", "3:4,", "3:4,5,6", ""])
def test_a_point_that_cannot_be_read_is_said_to_be(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        ScenePoint.parse(text)
    assert str(ScenePoint.parse("3:4,5.5")) == "3:4,5.5"


def test_a_run_that_kept_nothing_is_refused(tmp_path: Path, tilted: SimulatedWorld) -> None:
    config = load_config(None, {"keep": "none", "export": "poses", "coarse": 0})
    source = SimulatedSource(tilted, frames=8)
    da3stream.reconstruct(source, tmp_path / "run", config=config, estimator=CountingEstimator(tilted))
    with pytest.raises(RunIncompleteError, match="--keep none"):
        pipeline.align(tmp_path / "run", scale=2.0)


def test_the_command_says_what_it_did(run: Path) -> None:
    shown = CliRunner().invoke(cli, ["align", str(run), "--up", "plane", "--known-distance", "0", "9", "3"])
    assert shown.exit_code == 0, shown.output
    assert "turned upright by 1" in shown.output
    assert "in metres" in shown.output
    words = CliRunner().invoke(cli, ["align", str(run), "--scale", "2", "--json"]).output.splitlines()[-1]
    chosen = json.loads(words)["alignment"]
    assert (chosen["up"], chosen["scale"], chosen["is_metric"]) == ("plane", 2.0, True)
    told = CliRunner().invoke(cli, ["info", str(run)]).output
    assert "upright by plane" in told
    assert "metres by hand" in told


def test_outputs_that_were_exported_since_count_when_it_is_finished_by_resume(
    run: Path, tilted: SimulatedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run itself writes no PNGs of depth; they have to be written again nevertheless."""
    da3stream.export(run, ("depth_png",))

    def stop(progress: da3stream.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.align(run, scale=2.0, progress=stop)
    config = load_config(None, json.loads((run / "run.json").read_text())["config"])
    source, estimator = SimulatedSource(tilted, magnification=2), CountingEstimator(tilted)
    with monkeypatch.context() as patch:
        patch.setitem(disk.FRAME_BYTES, "depth_png", 10**15)
        with pytest.raises(StoreError, match="the outputs need"):
            da3stream.reconstruct(source, run, config=config, estimator=estimator, resume=True)
    da3stream.reconstruct(source, run, config=config, estimator=estimator, resume=True)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_warnings_of_outputs_are_kept_once_and_replaced(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> list[str]:
        warnings: list[str] = json.loads((run / "run.json").read_text())["warnings"]
        return warnings

    def reduced(*names: str) -> str:
        size = "the reduced depth (a third of the size)"
        return f"{', '.join(names)}: with {size}; --keep full keeps all of it"

    before = said()
    da3stream.export(run, ("depth_png",))
    da3stream.export(run, ("depth_png", "mini_npz"))
    assert said() == [*before, reduced("depth_png", "mini_npz")]
    with monkeypatch.context() as patch:
        patch.setattr(TumWriter, "warnings", ("tum: that was close",))
        pipeline.align(run, scale=2.0)
    assert said() == [*before, reduced("depth_png", "mini_npz"), "tum: that was close"]
    da3stream.export(run, ("poses",))
    assert said()[-1] == "tum: that was close"
    da3stream.export(run, ("tum",))
    assert said() == [*before, reduced("depth_png", "mini_npz")]
    assert "tum" not in json.loads((run / "run.json").read_text())["outputs"]


def test_a_missing_package_is_said_before_anything_changes(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    da3stream.export(run, ("rerun",))
    before = (run / "journal.jsonl").read_bytes(), (run / "run.json").read_bytes()
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingDependencyError, match=r"da3stream\[rerun\]"):
        pipeline.align(run, scale=2.0)
    assert ((run / "journal.jsonl").read_bytes(), (run / "run.json").read_bytes()) == before
