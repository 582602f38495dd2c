"""The whole pipeline on a simulated capture."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import da3stream
from da3stream import Config, Frame, load_config
from da3stream.config.model import ExportName
from da3stream.errors import (
    EstimationError,
    InputError,
    MissingDependencyError,
    NoFramesError,
    RunExistsError,
    RunIncompleteError,
)
from da3stream.geometry.registration import umeyama
from da3stream.synthetic.capture import (
    SimulatedDescriptor,
    SimulatedEstimator,
    SimulatedSource,
    SimulatedWorld,
)

from .doubles import FRAMES, CountingEstimator, ReportingSource


def ate_m(world_from_cam: np.ndarray, world: SimulatedWorld) -> float:
    truth, estimated = world.world_from_cam[: len(world_from_cam), :3, 3], world_from_cam[:, :3, 3]
    aligned = umeyama(estimated, truth).apply(estimated)
    return float(np.sqrt(np.square(aligned - truth).sum(1).mean()))


def test_exact_submaps_give_the_exact_trajectory(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    result = da3stream.reconstruct(
        source, tmp_path / "run", config=config, estimator=SimulatedEstimator(world, 1, 0.0)
    )
    assert ate_m(result.trajectory.world_from_cam, world) < 0.005
    np.testing.assert_allclose(result.trajectory.world_from_cam[0], np.eye(4), atol=1e-12)
    assert result.trajectory.index.tolist() == list(range(FRAMES))
    assert result.warnings == ()


def test_errors_like_a_network_s_stay_small(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    result = da3stream.reconstruct(
        source, tmp_path / "run", config=config, estimator=SimulatedEstimator(world, 1)
    )
    path_m = np.linalg.norm(np.diff(world.world_from_cam[:, :3, 3], axis=0), axis=1).sum()
    assert ate_m(result.trajectory.world_from_cam, world) < 0.02 * path_m


def test_every_output_is_there_and_covers_every_frame(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    run = tmp_path / "run"
    da3stream.reconstruct(source, run, config=config, estimator=SimulatedEstimator(world, 1, 0.0))
    for name in ("camera_poses.txt", "intrinsic.txt", "trajectory_tum.txt", "trajectory_kitti.txt"):
        assert len((run / name).read_text().splitlines()) == FRAMES, name
    assert len(json.loads((run / "cameras.json").read_text())["frames"]) == FRAMES
    assert (run / "pcd" / "combined_pcd.ply").stat().st_size > 10_000
    assert len(list((run / "colmap" / "images").iterdir())) == FRAMES
    assert not (run / "scratch").exists()
    manifest = json.loads((run / "run.json").read_text())
    assert (manifest["status"], manifest["frames"], manifest["model"]) == ("finished", FRAMES, "simulated")


def test_points_lie_on_the_true_surfaces(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    result = da3stream.reconstruct(
        source, tmp_path / "run", config=config, estimator=SimulatedEstimator(world, 1, 0.0)
    )
    fit = umeyama(result.trajectory.world_from_cam[:, :3, 3], world.world_from_cam[:FRAMES, :3, 3])
    updates = da3stream.stream(
        source, tmp_path / "again", config=config, estimator=SimulatedEstimator(world, 1, 0.0)
    )
    in_truth = fit.apply(np.concatenate([update.points_in_world[::10] for update in updates]))
    ground = np.abs(in_truth[:, 1] - 1.65) < 0.02
    low, high = world.boxes[:, 0], world.boxes[:, 1]
    outside = np.maximum(low - in_truth[:, None], in_truth[:, None] - high)
    distance = np.abs(np.max(outside, axis=2)).min(axis=1)
    assert (ground | (distance < 0.15)).mean() > 0.99


@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 18, 24, 25])
def test_any_length(tmp_path: Path, world: SimulatedWorld, config: Config, frames: int) -> None:
    source = SimulatedSource(world, frames=frames)
    result = da3stream.reconstruct(
        source, tmp_path / "run", config=config, estimator=SimulatedEstimator(world, 1, 0.0)
    )
    assert len(result.trajectory) == frames
    assert np.isfinite(result.trajectory.world_from_cam).all()


@pytest.mark.parametrize("overlap", [1, 3, 8, 12, 14])
def test_any_overlap(tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, overlap: int) -> None:
    config = load_config(None, {"colmap_points": "dense", "chunk_size": 16, "overlap": overlap})
    result = da3stream.reconstruct(
        source, tmp_path / "run", config=config, estimator=SimulatedEstimator(world, 1, 0.0)
    )
    assert ate_m(result.trajectory.world_from_cam, world) < 0.02


def test_descriptors_are_stored_with_the_run(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    from da3stream.store import open_existing

    descriptor = SimulatedDescriptor(world)
    da3stream.reconstruct(
        source,
        tmp_path / "run",
        config=config,
        estimator=SimulatedEstimator(world, 1, 0.0),
        descriptor=descriptor,
    )
    run = open_existing(tmp_path / "run")
    stored = [run.descriptors(index) for index in range(len(run.chunks))]
    run.close()
    expected = descriptor.describe(np.zeros((FRAMES, 1, 1, 3), np.uint8), indices=np.arange(FRAMES))
    np.testing.assert_allclose(np.concatenate([d for d in stored if d is not None]), expected, atol=1e-3)


def test_known_intrinsics_reach_the_estimator_at_processing_resolution(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    seen = []

    class Listening(CountingEstimator):
        def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Any:
            seen.append(known_cameras.intrinsics)
            return super().estimate(images, indices=indices, known_cameras=known_cameras)

    config = load_config(None, {"intrinsics": "100,101,60,20", "colmap_points": "dense", "chunk_size": 16})
    da3stream.reconstruct(source, tmp_path / "run", config=config, estimator=Listening(world))
    np.testing.assert_allclose(seen[0], np.tile([[100.0, 0, 60], [0, 101, 20], [0, 0, 1]], (16, 1, 1)))


def test_settled_intrinsics_are_passed_to_later_chunks(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:

    settled = np.array([[90.0, 0, 63], [0, 90, 21], [0, 0, 1]])
    seen = []

    class Settling(CountingEstimator):
        def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Any:
            seen.append(known_cameras)
            prediction = super().estimate(images, indices=indices)
            return replace(prediction, settled_intrinsics=settled) if len(self.chunks) == 2 else prediction

    da3stream.reconstruct(source, tmp_path / "run", config=config, estimator=Settling(world))
    assert seen[0] is None
    assert seen[1] is None
    assert all(np.array_equal(known.intrinsics[0], settled) for known in seen[2:])


def test_a_prediction_that_breaks_the_contract_is_an_error(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:

    class Broken(CountingEstimator):
        def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Any:
            prediction = super().estimate(images, indices=indices)
            return replace(prediction, cam_from_submap=np.full_like(prediction.cam_from_submap, np.nan))

    with pytest.raises(EstimationError, match="'counting' broke its contract: a camera is not finite"):
        da3stream.reconstruct(source, tmp_path / "run", config=config, estimator=Broken(world))


def test_a_source_that_breaks_the_contract_is_an_error(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    class Jumping(ReportingSource):
        def __iter__(self) -> Any:
            for frame in super().__iter__():
                shifted = frame.index + (frame.index > 3)
                yield Frame(index=shifted, source_index=shifted, timestamp_s=0.0, image=frame.image)

    with pytest.raises(InputError, match=r"frame 5 .* expected frame 4"):
        da3stream.reconstruct(
            Jumping(SimulatedSource(world)),
            tmp_path / "run",
            config=config,
            estimator=CountingEstimator(world),
        )


def test_an_empty_source_is_an_error(tmp_path: Path, world: SimulatedWorld, config: Config) -> None:
    class Empty(ReportingSource):
        def __iter__(self) -> Any:
            return iter(())

    with pytest.raises(NoFramesError):
        da3stream.reconstruct(
            Empty(SimulatedSource(world)), tmp_path / "run", config=config, estimator=CountingEstimator(world)
        )


def test_a_second_run_refuses_or_overwrites(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    run = tmp_path / "run"
    first = da3stream.reconstruct(source, run, config=config, estimator=CountingEstimator(world))
    (run / "notes.txt").write_text("mine")
    with pytest.raises(RunExistsError, match="--resume"):
        da3stream.reconstruct(source, run, config=config, estimator=CountingEstimator(world))
    poses = (run / "camera_poses.txt").read_bytes()
    estimator = CountingEstimator(world)
    again = da3stream.reconstruct(source, run, config=config, estimator=estimator, overwrite=True)
    assert len(estimator.chunks) > 0
    assert (run / "camera_poses.txt").read_bytes() == poses
    assert np.array_equal(first.trajectory.world_from_cam, again.trajectory.world_from_cam)
    assert (run / "notes.txt").read_text() == "mine"


class SilentEstimator(SimulatedEstimator):
    """Must not be asked."""

    def estimate(self, *arguments: Any, **keywords: Any) -> Any:
        raise AssertionError("a finished run has nothing to estimate")


@pytest.mark.parametrize("keep", ["none", "reduced", "full"])
def test_keep(tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, keep: str) -> None:
    run = tmp_path / "run"
    config = load_config(None, {"colmap_points": "dense", "chunk_size": 16, "keep": keep})
    da3stream.reconstruct(source, run, config=config, estimator=SimulatedEstimator(world, 1, 0.0))
    assert (run / "submaps").exists() == (keep != "none")
    assert (run / "results_output" / "frame_0.npz").exists() == (keep == "full")
    if keep == "none":
        with pytest.raises(RunIncompleteError, match="--keep none"):
            da3stream.export(run, ("tum",))
        again = SilentEstimator(world, 1, 0.0)
        finished = da3stream.reconstruct(source, run, config=config, estimator=again, resume=True)
        assert len(finished.trajectory) == FRAMES
        assert list(da3stream.stream(source, run, config=config, estimator=again, resume=True)) == []
        return
    (run / "trajectory_tum.txt").unlink()
    da3stream.export(run, ("tum",))
    assert len((run / "trajectory_tum.txt").read_text().splitlines()) == FRAMES
    if keep == "reduced":
        with pytest.raises(RunIncompleteError, match="--keep full"):
            da3stream.export(run, ("results",))


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["reduced", "full"])
def test_every_format_can_be_exported_later_and_gives_the_same_files_again(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, keep: str
) -> None:
    run = tmp_path / "run"
    # Recordings of rerun have random row ids; the simulated estimator predicts no Gaussians.
    everything = tuple(name for name in get_args(ExportName) if name not in ("rerun", "gs_ply"))
    config = load_config(None, {"chunk_size": 16, "keep": keep, "export": everything})
    result = da3stream.reconstruct(source, run, config=config, estimator=SimulatedEstimator(world, 1, 0.0))
    said = [warning for warning in result.warnings if "with the reduced depth" in warning]
    assert len(said) == (keep == "reduced")
    made = _exported(run)
    da3stream.export(run, everything)
    assert _exported(run) == made
    folders = {path.split("/")[0] for path in made}
    assert folders >= {
        "chunks",
        "nerfstudio",
        "npz",
        "mini_npz",
        "depth_vis",
        "depth_png",
        "depth_exr",
        "scene.glb",
    }
    assert not [path for path in made if "scratch" in path]
    with np.load(run / "npz" / "results.npz") as content:
        image, depth = content["image"], content["depth"]
    assert len(depth) == FRAMES
    assert image.shape[:3] == depth.shape
    stored = json.loads((run / "depth_png" / "depth.json").read_text())["frames"]
    assert {(frame["height"], frame["width"]) for frame in stored} == {depth.shape[1:]}
    (size,) = {frame.size for frame in source}
    assert ((depth.shape[2], depth.shape[1]) == size) == (keep == "full")


def _exported(run: Path) -> dict[str, bytes]:
    """What export writes: all files but the run's own."""
    own = {"run.json", "journal.jsonl", "lock", "submaps", "frames", "full_depth", "trajectory.safetensors"}
    paths = [path.relative_to(run) for path in run.rglob("*") if path.is_file()]
    return {str(path): (run / path).read_bytes() for path in paths if path.parts[0] not in own}


def test_a_missing_package_of_a_format_is_said_before_anything_is_computed(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    da3stream.reconstruct(source, run, estimator=SimulatedEstimator(world, 1, 0.0))
    da3stream.export(run, ("rerun",))
    assert (run / "rerun" / "capture.rrd").exists()
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingDependencyError, match=r"da3stream\[rerun\]"):
        da3stream.export(run, ("tum", "rerun"))
    config = load_config(None, {"export": "tum,rerun"})
    with pytest.raises(MissingDependencyError, match=r"da3stream\[rerun\]"):
        da3stream.reconstruct(
            source, tmp_path / "other", config=config, estimator=SilentEstimator(world, 1, 0.0)
        )
    assert not (tmp_path / "other").exists()


def test_depth_without_any_confidence_beside_the_rest_makes_no_points(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    class Doubtful(CountingEstimator):
        """The third chunk is a guess."""

        def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Any:
            prediction = super().estimate(images, indices=indices)
            factor = 1e-4 if len(self.chunks) == 3 else 1.0
            return replace(prediction, confidence=(prediction.confidence * factor).astype(np.float32))

    updates = list(da3stream.stream(source, tmp_path / "run", config=config, estimator=Doubtful(world)))
    assert [len(update.points_in_world) > 0 for update in updates[:4]] == [True, True, False, True]
    doubtful = updates[2].frames
    frames = json.loads((tmp_path / "run" / "cameras.json").read_text())["frames"]
    assert {frame["index"] for frame in frames} >= set(doubtful.tolist())
