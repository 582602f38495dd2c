"""What rerun reads of a run that is logged while it goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rerun.chunk import RrdReader
from scipy.spatial.transform import Rotation

import da3stream
from da3stream import Config, load_config
from da3stream.errors import ConfigError, MissingDependencyError, StoreError
from da3stream.finishing import block_of
from da3stream.live_rerun import POINTS_PER_FRAME, LiveRerun
from da3stream.placed_map import PlacedMap
from da3stream.result import Update
from da3stream.store import open_existing
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld
from da3stream.synthetic.paths import street_laps
from da3stream.writers import rerun_recording
from da3stream.writers.cloud import confident_cloud
from da3stream.writers.flying_pixels import without_flying_pixels
from tests.pipeline.doubles import CountingEstimator

FRAMES = 70


@dataclass
class Logged:
    """The last that was logged, by frame or entity."""

    poses: dict[int, np.ndarray]
    updates: dict[int, list[int]]
    """Frame -> after which chunks its pose was logged."""
    points: dict[int, np.ndarray]
    """Submap -> (K, 3) where they were logged."""
    moved: dict[int, np.ndarray]
    """Submap -> (K, 3) where they are in the end."""
    path: np.ndarray
    images: int
    unit: str


def pose_of(translation: Any, quaternion_xyzw: Any) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(quaternion_xyzw).as_matrix()
    pose[:3, 3] = translation
    return pose


def read(path: Path) -> Logged:
    columns: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for chunk in RrdReader(str(path)).stream().to_chunks():
        batch = chunk.to_record_batch()
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            columns[chunk.entity_path, name].extend(column.to_pylist())
    camera = "/world/camera"
    poses, updates = {}, defaultdict(list)
    for frame, update, shift, turn in zip(
        columns[camera, "frame"],
        columns[camera, "update"],
        columns[camera, "Transform3D:translation"],
        columns[camera, "Transform3D:quaternion"],
        strict=True,
    ):
        poses[frame] = pose_of(shift[0], turn[0])
        updates[frame].append(update)
    points, moved, path_of = {}, {}, {}
    for entity, name in list(columns):
        rows = columns[entity, name]
        if name == "Points3D:positions":
            submap = int(entity.rpartition("/")[2])
            points[submap] = moved[submap] = np.array(rows[0])
            if (entity, "Transform3D:translation") in columns:
                shift, turn, scale = (
                    columns[entity, f"Transform3D:{part}"][-1][0]
                    for part in ("translation", "quaternion", "scale")
                )
                pose = pose_of(shift, turn)
                moved[submap] = points[submap] * scale @ pose[:3, :3].T + pose[:3, 3]
        elif name == "LineStrips3D:strips":
            path_of[entity] = np.array(rows[-1][0])
    parts = [path_of[entity] for entity in sorted(path_of)]
    for before, after in pairwise(parts):
        np.testing.assert_array_equal(before[-1], after[0])
    return Logged(
        poses=poses,
        updates=updates,
        points=points,
        moved=moved,
        path=np.concatenate([parts[0], *(part[1:] for part in parts[1:])]),
        images=len(columns[f"{camera}/image", "EncodedImage:blob"]),
        unit=columns["/__properties/da3stream", "unit"][-1][0],
    )


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    return SimulatedWorld(street_laps(FRAMES), seed=7, size=(14, 42), hfov_deg=82)


@pytest.fixture
def config() -> Config:
    return load_config(None, {"chunk_size": 16, "overlap": 8, "export": "poses,cameras"})


def log(
    path: Path, run: Path, config: Config, world: SimulatedWorld, *, resume: bool = False
) -> list[Update]:
    told = []
    with LiveRerun(path, run) as live:
        live.start(config.model_dump(mode="json"))
        estimator = CountingEstimator(world, level=1.0)
        for update in da3stream.stream(
            SimulatedSource(world), run, config=config, estimator=estimator, resume=resume
        ):
            told.append(update)
            live.update(update)
        live.end("finished", is_metric=False)
    return told


def test_the_file_ends_with_what_the_run_ends_with(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    told = log(tmp_path / "live.rrd", tmp_path / "run", config, world)
    logged = read(tmp_path / "live.rrd")
    poses = np.loadtxt(tmp_path / "run" / "camera_poses.txt").reshape(-1, 4, 4)
    assert sorted(logged.poses) == list(range(FRAMES))
    assert np.abs(np.stack([logged.poses[frame] for frame in range(FRAMES)]) - poses).max() < 1e-4
    assert np.abs(logged.path - poses[:, :3, 3]).max() < 1e-4
    assert (logged.images, logged.unit) == (FRAMES, "arbitrary")
    corrected = {frame for update in told for frame in update.corrections}
    assert corrected >= {frame for frame, updates in logged.updates.items() if len(updates) > 1} != set()
    assert all(updates == sorted(updates) for updates in logged.updates.values())
    reader = RrdReader(str(tmp_path / "live.rrd"))
    assert len(reader.blueprints()) == 1
    # A resumed run logs everything again, and the same.
    log(tmp_path / "again.rrd", tmp_path / "run", config, world, resume=True)
    again = read(tmp_path / "again.rrd")
    assert np.abs(np.stack([again.poses[frame] for frame in range(FRAMES)]) - poses).max() < 1e-4
    assert again.images == FRAMES


def test_points_follow_the_cameras_that_saw_them(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    """In the end they lie nearer to where the finished map has them than where they were logged."""
    told = log(tmp_path / "live.rrd", tmp_path / "run", config, world)
    logged = read(tmp_path / "live.rrd")
    with_frames = [update for update in told if update.block is not None]
    assert [*logged.points] == [update.chunk for update in with_frames]
    assert all(
        len(logged.points[update.chunk])
        == min(len(update.points_in_world), POINTS_PER_FRAME * len(update.frames))
        for update in with_frames
    )
    run = open_existing(tmp_path / "run")
    run.close()
    placed = PlacedMap.of(run, config.scale_prior)
    errors = {"logged": 0.0, "moved": 0.0}
    for chunk in logged.points:
        block = without_flying_pixels(block_of(run, placed, chunk, run.typical_confidence), config.edge_angle)
        final = confident_cloud(block, config.confidence_percentile).points_in_world.mean(axis=0)
        for name, points in (("logged", logged.points[chunk]), ("moved", logged.moved[chunk])):
            errors[name] += float(np.linalg.norm(points.mean(axis=0) - final))
    assert errors["moved"] < 0.5 * errors["logged"]


def test_a_similarity_moves_points_exactly(tmp_path: Path, world: SimulatedWorld, config: Config) -> None:
    """A whole world that is turned and becomes twice as large, as when the unit is settled in the end."""
    config = config.model_copy(update={"export": ("poses",)})
    updates = []
    with LiveRerun(tmp_path / "live.rrd", tmp_path / "run") as live:
        live.start(config.model_dump(mode="json"))
        for update in da3stream.stream(
            SimulatedSource(world), tmp_path / "run", config=config, estimator=CountingEstimator(world)
        ):
            if update.block is not None:
                updates.append(update)
                live.update(replace_corrections(update, {}, {}))
        turn = Rotation.from_euler("xyz", [20, -30, 40], degrees=True).as_matrix()
        corrections, factors = {}, {}
        for update in updates:
            for frame, pose in zip(update.frames.tolist(), update.world_from_cam, strict=True):
                corrections[frame] = np.eye(4)
                corrections[frame][:3, :3] = turn @ pose[:3, :3]
                corrections[frame][:3, 3] = 2 * turn @ pose[:3, 3] + [1, 2, 3]
                factors[frame] = 2.0
        live.update(replace_corrections(updates[-1], corrections, factors, block=None))
        live.end("finished", is_metric=True)
    logged = read(tmp_path / "live.rrd")
    for submap, points in logged.points.items():
        expected = 2 * points @ turn.T + [1, 2, 3]
        np.testing.assert_allclose(logged.moved[submap], expected, atol=1e-3)
    assert logged.unit == "metres"


def test_depth_that_grows_below_cameras_that_stay_is_logged(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    config = config.model_copy(update={"export": ("poses",)})
    first: Update | None = None
    with LiveRerun(tmp_path / "live.rrd", tmp_path / "run") as live:
        live.start(config.model_dump(mode="json"))
        for update in da3stream.stream(
            SimulatedSource(world), tmp_path / "run", config=config, estimator=CountingEstimator(world)
        ):
            if first is None:
                first = update
                live.update(replace_corrections(update, {}, {}))
        assert first is not None
        poses = dict(zip(first.frames.tolist(), first.world_from_cam, strict=True))
        live.update(replace_corrections(first, poses, dict.fromkeys(poses, 2.0), block=None))
        live.end("finished", is_metric=True)
    logged = read(tmp_path / "live.rrd")
    (submap,) = logged.points
    centre = first.world_from_cam[len(first.frames) // 2, :3, 3]
    np.testing.assert_allclose(logged.moved[submap] - centre, 2 * (logged.points[submap] - centre), atol=1e-3)


def replace_corrections(update: Update, corrections: Any, factors: Any, **changes: Any) -> Update:
    return replace(update, corrections=corrections, depth_factors=factors, **changes)


def test_it_can_be_read_while_it_grows_and_after_a_break(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    path = tmp_path / "live.rrd"
    updates = da3stream.stream(
        SimulatedSource(world), tmp_path / "run", config=config, estimator=CountingEstimator(world)
    )

    def break_off() -> None:
        with LiveRerun(path, tmp_path / "run") as live:
            live.start(config.model_dump(mode="json"))
            for _ in range(3):
                live.update(next(updates))
            shutil.copy(path, tmp_path / "growing.rrd")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    updates.close()
    logged = read(path)
    assert logged.unit == "not known yet"
    assert len(logged.poses) == logged.images == 32
    command = [str(Path(sys.executable).with_name("rerun")), "rrd", "verify", str(path)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    with pytest.warns(match="no footer"):
        assert sorted(read(tmp_path / "growing.rrd").poses)[:16] == list(range(16))


def test_what_cannot_be_logged_to_is_said_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="lies in the run directory"):
        LiveRerun(tmp_path / "run" / "live.rrd", tmp_path / "run")
    with pytest.raises(ConfigError, match="there is no folder"):
        LiveRerun(tmp_path / "missing" / "live.rrd", tmp_path / "run")
    with LiveRerun(tmp_path / "live.rrd", tmp_path / "run"):
        pass
    assert not (tmp_path / "live.rrd").exists()
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingDependencyError, match=r"da3stream\[rerun\]"):
        LiveRerun(tmp_path / "live.rrd", tmp_path / "run")


def test_a_disk_that_is_full_is_one_error(
    tmp_path: Path, world: SimulatedWorld, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, file: Any, piece: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rerun_recording._PipedFile, "_write", full)
    with pytest.raises(StoreError, match=r"cannot log to .*No space left on device"):
        log(tmp_path / "live.rrd", tmp_path / "run", config, world)


def test_a_file_that_is_no_recording_is_never_overwritten(tmp_path: Path) -> None:
    video = tmp_path / "walk.mp4"
    video.write_bytes(b"a video")
    with pytest.raises(ConfigError, match=r"has to end in \.rrd"):
        LiveRerun(video, tmp_path / "run")
    assert video.read_bytes() == b"a video"
