"""Runs whose poses are priors: the map is made as without them, and ends in their frame and unit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import da3stream
from da3stream import Frame, load_config
from da3stream.errors import ConfigError, InputError, RunMismatchError
from da3stream.evaluation import PoseSequence
from da3stream.geometry.sim3 import Sim3
from da3stream.known_poses import KnownPoses
from da3stream.opening import open_input
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld

from .doubles import FRAMES, CountingEstimator
from .test_known_poses import PosedSource, log_depth_errors, write_kitti, write_tum
from .test_resume import digests

OPTIONS = {"colmap_points": "dense", "chunk_size": 16, "overlap": 8, "poses_as": "prior"}
NOISE_M = 0.1
WORLD = Sim3.exp(np.array([0.4, 0.2, -2.0, 900.0, -300.0, 40.0, 0.0]))
"""From the simulated world to that of the priors, both in metres."""


def priors_of(world: SimulatedWorld, noise_m: float = NOISE_M) -> np.ndarray:
    rng = np.random.default_rng(1)
    poses = WORLD.move_pose(world.world_from_cam)
    poses[:, :3, 3] += noise_m * rng.normal(size=(len(poses), 3))
    poses[:, :3, :3] = (
        Rotation.from_rotvec(0.01 * rng.normal(size=(len(poses), 3))).as_matrix() @ poses[:, :3, :3]
    )
    return poses


def run(
    folder: Path, world: SimulatedWorld, poses: Path, level: float = 1.0, **options: Any
) -> da3stream.Result:
    config = load_config(None, {**OPTIONS, "poses": str(poses), **options})
    return da3stream.reconstruct(
        SimulatedSource(world), folder, config=config, estimator=CountingEstimator(world, level=level)
    )


def errors_m(result: da3stream.Result, world: SimulatedWorld) -> np.ndarray:
    truth = WORLD.move_pose(world.world_from_cam[:FRAMES])
    return np.asarray(np.linalg.norm(result.trajectory.world_from_cam[:, :3, 3] - truth[:, :3, 3], axis=1))


def test_the_map_ends_in_the_frame_and_unit_of_noisy_priors(tmp_path: Path, world: SimulatedWorld) -> None:
    priors = priors_of(world)
    result = run(tmp_path, world, write_kitti(tmp_path.parent / "priors.txt", priors))
    errors = errors_m(result, world)
    assert np.sqrt(np.square(errors).mean()) < 0.6 * NOISE_M * np.sqrt(3)
    assert max(abs(error) for error in log_depth_errors(tmp_path, world).values()) < 0.05
    manifest = json.loads((tmp_path / "run.json").read_text())
    assert manifest["is_metric"] is True
    assert manifest["config"]["loop"] is True  # drift is still corrected by loops
    found = manifest["optimisation"]["pose_priors"]
    assert found["frames"] == FRAMES
    assert found["sigma"] == pytest.approx(NOISE_M, rel=0.3)


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_priors_that_leave_the_unit_open_are_said(
    tmp_path: Path, world: SimulatedWorld, noise: float
) -> None:
    """Noise as large as the path; with the larger one, rotations seem not to fit either."""
    length_m = float(np.ptp(world.world_from_cam[:FRAMES, :3, 3], axis=0).max())
    poses = write_kitti(tmp_path / "priors.txt", priors_of(world, noise_m=noise * length_m))
    result = run(tmp_path / "run", world, poses)
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert manifest["is_metric"] is False
    (said,) = [warning for warning in result.warnings if "prior poses are so noisy" in warning]
    assert "do they belong to this video?" in said
    page = (tmp_path / "run" / "report.html").read_text()
    assert "with a prior pose: positions off by" in page
    assert "Lengths are in metres" not in page


def test_a_few_frames_with_a_pose_are_enough(tmp_path: Path, world: SimulatedWorld) -> None:
    """Once a second, on another clock, as GPS gives them."""
    priors = priors_of(world, noise_m=0.03)
    times = 1e9 + np.arange(len(priors)) / 10
    path = write_tum(tmp_path / "gps.txt", times[::10] + 0.02, priors[::10])
    result = run(tmp_path / "run", world, path, pose_offset=1e9)
    assert np.sqrt(np.square(errors_m(result, world)).mean()) < 0.3
    found = json.loads((tmp_path / "run" / "run.json").read_text())["optimisation"]["pose_priors"]
    assert 7 <= found["frames"] < FRAMES / 2


def test_a_source_may_know_some_poses(tmp_path: Path, world: SimulatedWorld) -> None:
    config = load_config(None, OPTIONS)
    source = PosedSource(world, 30)
    result = da3stream.reconstruct(
        source, tmp_path, config=config, estimator=CountingEstimator(world, level=0.0)
    )
    np.testing.assert_allclose(
        result.trajectory.world_from_cam[:, :3, 3], world.world_from_cam[:FRAMES, :3, 3], atol=0.02
    )
    assert json.loads((tmp_path / "run.json").read_text())["is_metric"] is False  # nobody has said so


def test_an_interrupted_run_is_the_same_and_refuses_other_priors(
    tmp_path: Path, world: SimulatedWorld
) -> None:
    path = write_kitti(tmp_path / "priors.txt", priors_of(world))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(whole, world, path)
    config = load_config(None, {**OPTIONS, "poses": str(path)})
    source = SimulatedSource(world)
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            source, cut, config=config, estimator=CountingEstimator(world, level=1.0, fail_at=3)
        )
    fixed = config.model_copy(update={"poses_as": "fixed"})
    with pytest.raises(RunMismatchError, match="poses_as"):
        da3stream.reconstruct(source, cut, config=fixed, estimator=CountingEstimator(world), resume=True)
    write_kitti(path, priors_of(world, noise_m=0.2))
    with pytest.raises(RunMismatchError, match="the content of the known poses"):
        da3stream.reconstruct(source, cut, config=config, estimator=CountingEstimator(world), resume=True)
    write_kitti(path, priors_of(world))
    second = CountingEstimator(world, level=1.0)
    da3stream.reconstruct(source, cut, config=config, estimator=second, resume=True)
    assert second.chunks
    assert digests(cut) == digests(whole)
    path.unlink()
    da3stream.export(cut, ("tum", "pcd", "trajectory"))  # needs the file no more
    assert digests(cut) == digests(whole)


def test_the_last_update_moves_everything_to_the_priors(tmp_path: Path, world: SimulatedWorld) -> None:
    path = write_kitti(tmp_path / "priors.txt", priors_of(world))
    config = load_config(None, {**OPTIONS, "poses": str(path)})
    updates = list(
        da3stream.stream(
            SimulatedSource(world), tmp_path / "run", config=config, estimator=CountingEstimator(world)
        )
    )
    assert sorted(updates[-1].corrections) == list(range(FRAMES))
    truth = WORLD.move_pose(world.world_from_cam[:FRAMES])
    off = [np.linalg.norm(updates[-1].corrections[f][:3, 3] - truth[f, :3, 3]) for f in range(FRAMES)]
    assert max(off) < 4 * NOISE_M


def test_what_cannot_be_priors_is_refused(tmp_path: Path, world: SimulatedWorld) -> None:
    with pytest.raises(ConfigError, match="add poses_as prior"):
        load_config(None, {"pose_prior_sigma": 0.1})
    (tmp_path / "photos").mkdir()
    assert cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.zeros((28, 28, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"no poses to take as priors. Add --poses FILE"):
        open_input(tmp_path / "photos", load_config(None, {"poses_as": "prior"}))


class UnknownLength(SimulatedSource):
    def size_hint(self) -> int:
        return None  # type: ignore[return-value]


@pytest.mark.parametrize("source_of", [SimulatedSource, UnknownLength])
@pytest.mark.parametrize("memory", [0, 4])
def test_poses_on_another_clock_stop_the_run_before_anything_is_stored(
    tmp_path: Path, world: SimulatedWorld, source_of: type[SimulatedSource], memory: int
) -> None:
    """Without --pose-offset; then the same command with it."""
    times = 1e9 + np.arange(FRAMES) / 10
    path = write_tum(tmp_path / "unix.txt", times, priors_of(world)[:FRAMES])
    estimator = CountingEstimator(world)
    config = load_config(None, {**OPTIONS, "poses": str(path), "memory_keyframes": memory})
    with pytest.raises(InputError, match=r"no pose for any .* from 1000000000\.0.* frame 15 at 1\.5.* s"):
        da3stream.reconstruct(source_of(world), tmp_path / "run", config=config, estimator=estimator)
    assert estimator.chunks == []
    assert not (tmp_path / "run").exists()
    config = config.model_copy(update={"pose_offset": 1e9})
    da3stream.reconstruct(source_of(world), tmp_path / "run", config=config, estimator=estimator)


def test_priors_that_begin_late_are_waited_for(tmp_path: Path, world: SimulatedWorld) -> None:
    """The first of the frames' 7 s have none; those after the first chunk do."""
    late = np.arange(40, FRAMES)
    path = write_tum(tmp_path / "gps.txt", late / 10, priors_of(world)[late])
    run(tmp_path / "run", world, path)
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert manifest["optimisation"]["pose_priors"]["frames"] == len(late)


def test_that_no_more_priors_come_is_said_when_it_is_certain(tmp_path: Path, world: SimulatedWorld) -> None:
    """Poses between frames of the second chunk, whose times are made up: only equal ones count."""
    path = write_tum(tmp_path / "gap.txt", np.array([2.0, 2.1, 2.2]) + 1e-2, priors_of(world)[:3])
    source = SimulatedSource(world)
    source.timestamps_are_synthetic = True  # type: ignore[attr-defined]
    estimator = CountingEstimator(world)
    config = load_config(None, {**OPTIONS, "poses": str(path)})
    with pytest.raises(InputError, match=r"nor for those to come.* give --fps.* run again with --overwrite"):
        da3stream.reconstruct(source, tmp_path / "run", config=config, estimator=estimator)
    assert max(frame for chunk in estimator.chunks for frame in chunk) < 40


def test_priors_of_other_images_are_refused_when_the_folder_is_opened(tmp_path: Path) -> None:
    folder, poses = tmp_path / "photos", np.tile(np.eye(4), (5, 1, 1))
    folder.mkdir()
    for name in "abcde":
        assert cv2.imwrite(str(folder / f"{name}.png"), np.zeros((28, 28, 3), np.uint8))

    def open_with(path: Path, **options: Any) -> None:
        open_input(folder, load_config(None, {"poses": str(path), "poses_as": "prior", **options}))

    def write_names(names: str) -> Path:
        frames = [
            {"file_path": f"images/{name}.png", "transform_matrix": np.eye(4).tolist()} for name in names
        ]
        path = tmp_path / "transforms.json"
        path.write_text(json.dumps({"frames": frames}))
        return path

    open_with(write_names("xabc"))
    with pytest.raises(InputError, match=r"poses of 2 of 5 images; .* 'x\.png', .*; image a\.png"):
        open_with(write_names("xabyz"))
    lines = write_kitti(tmp_path / "kitti.txt", poses)
    open_with(lines)
    with pytest.raises(InputError, match=r"poses of 2 of 2 images; got 5 poses, from frame 0 on"):
        open_with(lines, max_frames=2)
    with pytest.raises(InputError, match=r"5 poses from 100\.0.* to 104\.0.* s; frame 0 at 0\.0.* s"):
        open_with(write_tum(tmp_path / "tum.txt", 100.0 + np.arange(5), poses))


def test_two_lines_are_too_few_for_any_source(tmp_path: Path, world: SimulatedWorld) -> None:
    path = write_kitti(tmp_path / "two.txt", priors_of(world)[:2])
    with pytest.raises(InputError, match="too few poses for priors; got 2; expected at least 3"):
        run(tmp_path / "run", world, path)


def test_near_a_pose_gaps_may_be_long() -> None:
    """Priors once a second: a frame beside one has a prior, one in the middle of the gap has none."""
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 0, 3] = np.arange(5)
    known = KnownPoses(PoseSequence(world_from_cam=poses, timestamp_s=np.arange(5.0)))

    def prior(time_s: float) -> np.ndarray | None:
        image = np.zeros((14, 14, 3), np.uint8)
        return known.prior_of(Frame(index=0, source_index=0, timestamp_s=time_s, image=image))

    assert prior(2.5) is None
    assert prior(-0.1) is None  # before the first one
    for time_s in (1.9, 2.0, 2.1, 3.12):
        found = prior(time_s)
        assert found is not None
        np.testing.assert_allclose(found[:3, 3], [time_s, 0, 0], atol=1e-9)
