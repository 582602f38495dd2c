"""Interrupted runs go on where they were, and come out the same."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest

import da3stream
from da3stream import Config, load_config
from da3stream.errors import RunMismatchError, StoreError
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld

from .doubles import CountingEstimator

IDENTICAL = (
    "camera_poses.txt",
    "camera_poses.ply",
    "intrinsic.txt",
    "trajectory_tum.txt",
    "trajectory_kitti.txt",
    "cameras.json",
    "loop_closures.txt",
    "loop_closures.json",
    "trajectory.png",
    "pcd/combined_pcd.ply",
    "colmap/sparse/0/images.bin",
    "colmap/sparse/0/cameras.bin",
    "colmap/sparse/0/points3D.bin",
)


def digests(run: Path) -> dict[str, str]:
    files = [run / name for name in IDENTICAL] + sorted((run / "submaps").iterdir())
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld
) -> tuple[dict[str, str], int]:
    run = tmp_path_factory.mktemp("whole") / "run"
    estimator = CountingEstimator(world, level=1.0)
    config = load_config(None, {"colmap_points": "dense", "chunk_size": 16, "overlap": 8})
    da3stream.reconstruct(SimulatedSource(world), run, config=config, estimator=estimator)
    return digests(run), len(estimator.chunks)


@pytest.mark.parametrize("interrupted_at", [0, 1, 4])
def test_only_the_missing_chunks_are_estimated_and_the_result_is_the_same(
    tmp_path: Path,
    world: SimulatedWorld,
    source: SimulatedSource,
    config: Config,
    interrupted_at: int,
    uninterrupted: tuple[dict[str, str], int],
) -> None:
    expected, chunks = uninterrupted
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            source,
            tmp_path,
            config=config,
            estimator=CountingEstimator(world, level=1.0, fail_at=interrupted_at),
        )
    second = CountingEstimator(world, level=1.0)
    da3stream.reconstruct(source, tmp_path, config=config, estimator=second, resume=True)
    assert len(second.chunks) == chunks - interrupted_at
    assert digests(tmp_path) == expected


def test_interrupted_in_the_writers(
    tmp_path: Path,
    world: SimulatedWorld,
    source: SimulatedSource,
    config: Config,
    uninterrupted: tuple[dict[str, str], int],
) -> None:
    def stop(progress: da3stream.Progress) -> None:
        if progress.stage == "outputs":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            source, tmp_path, config=config, estimator=CountingEstimator(world, level=1.0), progress=stop
        )
    assert not (tmp_path / "camera_poses.txt").exists()
    second = CountingEstimator(world, level=1.0)
    da3stream.reconstruct(source, tmp_path, config=config, estimator=second, resume=True)
    assert second.chunks == []
    assert digests(tmp_path) == uninterrupted[0]


def test_a_damaged_submap_is_made_anew(
    tmp_path: Path,
    world: SimulatedWorld,
    source: SimulatedSource,
    config: Config,
    uninterrupted: tuple[dict[str, str], int],
) -> None:
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            source, tmp_path, config=config, estimator=CountingEstimator(world, level=1.0, fail_at=3)
        )
    damaged = tmp_path / "submaps" / "000001.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-5] ^= 0x10
    damaged.write_bytes(content)
    second = CountingEstimator(world, level=1.0)
    da3stream.reconstruct(source, tmp_path, config=config, estimator=second, resume=True)
    assert len(second.chunks) == uninterrupted[1] - 3 + 1
    assert digests(tmp_path) == uninterrupted[0]


def test_a_finished_run_returns_its_result(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    first = da3stream.reconstruct(source, tmp_path, config=config, estimator=CountingEstimator(world))
    second = CountingEstimator(world)
    again = da3stream.reconstruct(source, tmp_path, config=config, estimator=second, resume=True)
    assert second.chunks == []
    assert np.array_equal(first.trajectory.world_from_cam, again.trajectory.world_from_cam)
    assert dict(first.measured) == dict(again.measured)


def test_resume_of_nothing_starts_afresh(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    estimator = CountingEstimator(world)
    da3stream.reconstruct(source, tmp_path / "new" / "run", config=config, estimator=estimator, resume=True)
    assert len(estimator.chunks) > 0


def test_another_configuration_or_input_refuses(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, config: Config
) -> None:
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(source, tmp_path, config=config, estimator=CountingEstimator(world, fail_at=2))
    other = load_config(None, {"colmap_points": "dense", "chunk_size": 20, "overlap": 8})
    with pytest.raises(RunMismatchError, match=r"chunk_size \(was 16, now 20\)"):
        da3stream.reconstruct(source, tmp_path, config=other, estimator=CountingEstimator(world), resume=True)
    shorter = SimulatedSource(world, frames=40)
    with pytest.raises(RunMismatchError, match="the input"):
        da3stream.reconstruct(
            shorter, tmp_path, config=config, estimator=CountingEstimator(world), resume=True
        )


def test_a_disk_that_fills_up_while_writing_is_a_known_error_and_resumable(
    tmp_path: Path,
    world: SimulatedWorld,
    source: SimulatedSource,
    config: Config,
    uninterrupted: tuple[dict[str, str], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from da3stream.writers.pcd import PcdWriter

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(PcdWriter, "add", full)
        with pytest.raises(StoreError, match=r"No space left .* --resume"):
            da3stream.reconstruct(
                source, tmp_path, config=config, estimator=CountingEstimator(world, level=1.0)
            )
    assert not (tmp_path / "camera_poses.txt").exists()
    assert not (tmp_path / "scratch").exists()
    da3stream.reconstruct(
        source, tmp_path, config=config, estimator=CountingEstimator(world, level=1.0), resume=True
    )
    assert digests(tmp_path) == uninterrupted[0]
