"""Runs whose poses are known: they stay as they are, and depth comes out in their unit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import da3stream
from da3stream import Config, Frame, KnownCameras, Prediction, load_config
from da3stream.errors import InputError, RunMismatchError
from da3stream.finishing import block_of, too_far_out
from da3stream.pipeline import align
from da3stream.placed_map import PlacedMap
from da3stream.scene import Trajectory
from da3stream.store import open_existing
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld
from da3stream.synthetic.paths import street_laps

from .doubles import FRAMES, CountingEstimator
from .test_resume import digests

OPTIONS = {"colmap_points": "dense", "chunk_size": 16, "overlap": 8}
STANDING = range(20, 48)
"""Frames of a longer stop than a chunk."""


def write_kitti(path: Path, poses: np.ndarray) -> Path:
    np.savetxt(path, poses[:, :3].reshape(-1, 12), fmt="%.17g")
    return path


def write_tum(path: Path, times: np.ndarray, poses: np.ndarray) -> Path:
    from scipy.spatial.transform import Rotation

    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    np.savetxt(path, np.column_stack([times, poses[:, :3, 3], quaternions]), fmt="%.12f")
    return path


@pytest.fixture(scope="module")
def poses_file(world: SimulatedWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("poses") / "poses.txt", world.world_from_cam)


@pytest.fixture(scope="session")
def world() -> SimulatedWorld:
    """Not at the origin, so that nothing is right by chance."""
    poses = street_laps(FRAMES)
    return SimulatedWorld(poses, seed=7, size=(14, 42), hfov_deg=82)


def log_depth_errors(folder: Path, world: SimulatedWorld) -> dict[int, float]:
    """Median of log(depth of the outputs / true depth), by fine chunk."""
    run = open_existing(folder)
    try:
        placed, errors = PlacedMap.of(run, None), {}
        for record in run.fine_chunks:
            block = block_of(run, placed, record.chunk.index, run.typical_confidence)
            logs = []
            for row, frame in enumerate(block.index):
                truth = world.true_depth(int(frame))
                step = truth.depth.shape[1] // block.depth.shape[2]
                depth = truth.depth[step // 2 :: step, step // 2 :: step]
                known = (block.confidence[row] > 0) & ~truth.sky[step // 2 :: step, step // 2 :: step]
                logs.append(np.log(block.depth[row][known] / depth[known]))
            errors[record.chunk.index] = float(np.median(np.concatenate(logs)))
        return errors
    finally:
        run.close()


@pytest.mark.parametrize(("level", "tolerance"), [(0.0, 0.001), (1.0, 0.03)])
def test_the_poses_stay_and_depth_is_in_their_unit(
    tmp_path: Path, world: SimulatedWorld, poses_file: Path, level: float, tolerance: float
) -> None:
    config = load_config(None, {**OPTIONS, "poses": str(poses_file)})
    result = da3stream.reconstruct(
        SimulatedSource(world), tmp_path, config=config, estimator=CountingEstimator(world, level=level)
    )
    np.testing.assert_array_equal(
        result.trajectory.world_from_cam[:, :3, 3], world.world_from_cam[:FRAMES, :3, 3]
    )
    np.testing.assert_allclose(result.trajectory.world_from_cam, world.world_from_cam[:FRAMES], atol=1e-12)
    errors = log_depth_errors(tmp_path, world)
    assert len(errors) > 5
    assert max(abs(error) for error in errors.values()) < tolerance, errors
    manifest = json.loads((tmp_path / "run.json").read_text())
    assert manifest["is_metric"] is True
    assert manifest["coarse_chunks"] == manifest["loops"] == 0


def test_a_chunk_that_stands_still_has_its_scale_from_its_neighbours(tmp_path: Path) -> None:
    poses = street_laps(FRAMES)
    poses[STANDING.start : STANDING.stop] = poses[STANDING.start]
    world = SimulatedWorld(poses, seed=7, size=(14, 42), hfov_deg=82)
    config = load_config(None, {**OPTIONS, "poses": str(write_kitti(tmp_path / "poses.txt", poses))})
    estimator = CountingEstimator(world, level=0.0)
    da3stream.reconstruct(SimulatedSource(world), tmp_path / "run", config=config, estimator=estimator)
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert manifest["optimisation"]["submaps_whose_camera_hardly_moves"] >= 1
    errors = log_depth_errors(tmp_path / "run", world)
    assert max(abs(error) for error in errors.values()) < 0.01, errors


def test_a_camera_that_never_moves_tells_no_scale(tmp_path: Path) -> None:
    poses = np.repeat(street_laps(FRAMES)[:1], 20, axis=0)
    world = SimulatedWorld(poses, seed=7, size=(14, 42), hfov_deg=82)
    config = load_config(None, {**OPTIONS, "poses": str(write_kitti(tmp_path / "poses.txt", poses))})
    with pytest.raises(InputError, match="tell no scale"):
        da3stream.reconstruct(
            SimulatedSource(world), tmp_path / "run", config=config, estimator=CountingEstimator(world)
        )


@pytest.mark.parametrize(("northing", "warned"), [(5e6, True), (1e3, False)])
def test_coordinates_too_large_for_clouds_are_said(
    tmp_path: Path, world: SimulatedWorld, northing: float, warned: bool
) -> None:
    poses = world.world_from_cam.copy()
    poses[:, 1, 3] += northing
    path = write_kitti(tmp_path / "poses.txt", poses)
    config = load_config(None, {**OPTIONS, "poses": str(path), "export": ("kitti",)})
    result = da3stream.reconstruct(
        SimulatedSource(world, frames=40), tmp_path / "run", config=config, estimator=CountingEstimator(world)
    )
    said = [warning for warning in result.warnings if "so far from the origin" in warning]
    assert len(said) == warned
    if warned:
        assert "steps of 0.5:" in said[0]


def test_times_are_interpolated(tmp_path: Path, world: SimulatedWorld) -> None:
    """Poses at 20 Hz, half a period off the frames and on another clock."""
    middles = world.world_from_cam.copy()
    middles[:-1, :3, 3] = (middles[:-1, :3, 3] + middles[1:, :3, 3]) / 2
    times = 1e9 + np.arange(len(middles)) / 10 + 0.05
    path = write_tum(tmp_path / "tum.txt", times[:-1], middles[:-1])
    config = load_config(None, {**OPTIONS, "poses": str(path), "pose_offset": 1e9})
    with pytest.raises(InputError, match="no pose for frame 0 at 1000000000"):  # before the first pose
        da3stream.reconstruct(
            SimulatedSource(world), tmp_path / "run", config=config, estimator=CountingEstimator(world)
        )
    assert not (tmp_path / "run").exists()
    late = config.model_copy(update={"pose_offset": 1e9 + 0.07})
    result = da3stream.reconstruct(
        SimulatedSource(world, frames=40), tmp_path / "run", config=late, estimator=CountingEstimator(world)
    )
    expected = 0.8 * middles[:40, :3, 3] + 0.2 * middles[1:41, :3, 3]
    np.testing.assert_allclose(result.trajectory.world_from_cam[:, :3, 3], expected, atol=1e-4)


class PosedSource(SimulatedSource):
    """A foreign source that knows its poses, of the first `posed` frames at least."""

    def __init__(self, world: SimulatedWorld, posed: int = FRAMES) -> None:
        super().__init__(world)
        self._poses, self._posed = world.world_from_cam, posed

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            pose = self._poses[frame.index] if frame.index < self._posed else None
            yield replace(frame, world_from_cam=pose)


class SeeingEstimator(CountingEstimator):
    """Remembers which poses it was given."""

    def __init__(self, world: SimulatedWorld) -> None:
        super().__init__(world)
        self.given: dict[int, np.ndarray] = {}

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        assert isinstance(known_cameras, KnownCameras)
        assert known_cameras.cam_from_world is not None
        self.given.update(zip(map(int, indices), known_cameras.cam_from_world, strict=True))
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


def test_a_source_may_know_its_poses_and_the_estimator_is_told(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    estimator = SeeingEstimator(world)
    result = da3stream.reconstruct(PosedSource(world), tmp_path, config=config, estimator=estimator)
    np.testing.assert_array_equal(result.trajectory.world_from_cam, world.world_from_cam[:FRAMES])
    for frame, cam_from_world in estimator.given.items():
        product = cam_from_world @ world.world_from_cam[frame]
        np.testing.assert_allclose(product, np.eye(4)[:3], atol=1e-9)
    assert len(estimator.given) == FRAMES
    manifest = json.loads((tmp_path / "run.json").read_text())
    assert manifest["is_metric"] is False  # nobody has said so
    assert manifest["loops"] == 0


def test_a_source_that_knows_some_poses_only_is_refused(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    with pytest.raises(InputError, match="frame 30 without a known pose"):
        da3stream.reconstruct(
            PosedSource(world, 30), tmp_path, config=config, estimator=CountingEstimator(world)
        )


def test_an_interrupted_run_is_the_same_and_refuses_other_poses(
    tmp_path: Path, world: SimulatedWorld
) -> None:
    path = write_kitti(tmp_path / "poses.txt", world.world_from_cam)
    config = load_config(None, {**OPTIONS, "poses": str(path)})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    source = SimulatedSource(world)
    da3stream.reconstruct(source, whole, config=config, estimator=CountingEstimator(world, level=1.0))
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            source, cut, config=config, estimator=CountingEstimator(world, level=1.0, fail_at=3)
        )
    moved = world.world_from_cam.copy()
    moved[5, 0, 3] += 0.01
    write_kitti(path, moved)
    with pytest.raises(RunMismatchError, match="the content of the known poses"):
        da3stream.reconstruct(
            source, cut, config=config, estimator=CountingEstimator(world, level=1.0), resume=True
        )
    write_kitti(path, world.world_from_cam)
    second = CountingEstimator(world, level=1.0)
    da3stream.reconstruct(source, cut, config=config, estimator=second, resume=True)
    assert second.chunks
    assert digests(cut) == digests(whole)


def test_exports_need_no_pose_file(tmp_path: Path, world: SimulatedWorld) -> None:
    path = write_kitti(tmp_path / "poses.txt", world.world_from_cam)
    config = load_config(None, {**OPTIONS, "poses": str(path)})
    run = tmp_path / "run"
    da3stream.reconstruct(SimulatedSource(world), run, config=config, estimator=CountingEstimator(world))
    before = digests(run)
    path.unlink()
    da3stream.export(run, ("tum", "pcd", "cameras"))
    assert digests(run) == before


def test_updates_have_the_known_poses_at_once(
    tmp_path: Path, world: SimulatedWorld, poses_file: Path
) -> None:
    config = load_config(None, {**OPTIONS, "poses": str(poses_file)})
    estimator = CountingEstimator(world)
    for update in da3stream.stream(SimulatedSource(world), tmp_path, config=config, estimator=estimator):
        np.testing.assert_allclose(update.world_from_cam, world.world_from_cam[update.frames], atol=1e-12)
        assert update.corrections == {}
        assert len(update.points_in_world)


def test_a_run_at_known_poses_can_be_aligned(tmp_path: Path, world: SimulatedWorld, poses_file: Path) -> None:
    """Poses and depth are scaled alike; taking it back gives the known poses again."""
    folder = tmp_path / "run"
    config = load_config(None, {**OPTIONS, "poses": str(poses_file), "export": ("kitti",)})
    da3stream.reconstruct(SimulatedSource(world), folder, config=config, estimator=CountingEstimator(world))
    known = world.world_from_cam[:FRAMES, :3, 3]
    before = np.median(list(log_depth_errors(folder, world).values()))
    align(folder, scale=3.0)
    rows = np.loadtxt(folder / "trajectory_kitti.txt").reshape(-1, 3, 4)
    np.testing.assert_allclose(rows[:, :, 3], 3 * known, atol=1e-6)
    after = np.median(list(log_depth_errors(folder, world).values()))
    np.testing.assert_allclose(after - before, np.log(3), atol=1e-6)
    align(folder, reset=True)
    rows = np.loadtxt(folder / "trajectory_kitti.txt").reshape(-1, 3, 4)
    np.testing.assert_allclose(rows[:, :, 3], known, atol=1e-6)


def test_a_camera_that_stands_at_the_origin_is_not_far_from_it() -> None:
    frames = np.arange(3)
    standing = Trajectory(
        index=frames,
        timestamp_s=frames.astype(float),
        world_from_cam=np.tile(np.eye(4), (3, 1, 1)),
        intrinsics=np.tile(np.eye(3), (3, 1, 1)),
        submap=frames,
    )
    assert too_far_out(standing) == []
