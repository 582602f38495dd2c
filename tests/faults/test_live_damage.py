"""A live input cannot be captured again: what of its recording is damaged is left out, the rest is kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import da3stream
from da3stream import Frame, Result, load_config
from da3stream.errors import NoFramesError, StoreError
from da3stream.store import open_existing
from da3stream.synthetic.capture import SimulatedWorld
from tests.pipeline.doubles import CountingEstimator
from tests.pipeline.test_live_run import Frames, OnceSource, recorded_frames

from . import sweeps
from .capture import outputs_of, through
from .doubles import WatchedFileSystem

CONFIG = load_config(None, {"chunk_size": 12, "coarse": 0, "place": "none", "export": "poses,tum,cameras"})


def resume(world: SimulatedWorld, folder: Path) -> Result:
    with through(WatchedFileSystem()):
        return da3stream.reconstruct(
            OnceSource(world, frames=60),
            folder,
            config=CONFIG,
            estimator=CountingEstimator(world, 1.0),
            resume=True,
        )


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld) -> Path:
    """A run that was interrupted in its fourth chunk."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    with through(WatchedFileSystem()), pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            OnceSource(world, frames=60),
            folder,
            config=CONFIG,
            estimator=CountingEstimator(world, 1.0, fail_at=3),
        )
    return folder


def without(frames: list[Frame], batch: int) -> list[Frame]:
    """The frames without those of a batch of eight, counted anew."""
    kept = frames[: 8 * batch] + frames[8 * (batch + 1) :]
    return [
        Frame(
            index=index,
            source_index=frame.source_index,
            timestamp_s=frame.timestamp_s,
            image=frame.image,
            name=frame.name,
            original_size=frame.original_size,
        )
        for index, frame in enumerate(kept)
    ]


@pytest.mark.parametrize("damage", sweeps.DAMAGE)
@pytest.mark.parametrize("from_the_end", [False, True])
def test_a_damaged_batch_is_left_out(
    tmp_path: Path, world: SimulatedWorld, interrupted: Path, damage: str, from_the_end: bool
) -> None:
    """The result is that of the other frames. Where chunks were made of it, the run goes back first."""
    run = tmp_path / "run"
    shutil.copytree(interrupted, run)
    frames = recorded_frames(run)
    batch = len(frames) // 8 - 1 if from_the_end else 2
    sweeps.DAMAGE[damage](run / f"recorded/{batch:06d}.zip")
    if not from_the_end:
        with pytest.raises(StoreError, match=r"chunk 1 of .*8 frames of the live input are lost.*resume"):
            resume(world, run)
        opened = open_existing(run)
        opened.close()
        assert sorted(opened.chunks) == [0], "what was made of earlier frames is kept"
    result = resume(world, run)
    assert any(f"left out: recorded/{batch:06d}.zip" in warning for warning in result.warnings)
    with through(WatchedFileSystem()):
        da3stream.reconstruct(
            Frames(without(frames, batch)),
            tmp_path / "whole",
            config=CONFIG,
            estimator=CountingEstimator(world, 1.0),
        )
    assert outputs_of(run) == outputs_of(tmp_path / "whole")


def test_a_chunk_that_is_stored_needs_no_recording_when_all_are(
    tmp_path: Path, world: SimulatedWorld, interrupted: Path
) -> None:
    """A finished run has dropped it."""
    run = tmp_path / "run"
    shutil.copytree(interrupted, run)
    first = resume(world, run)
    assert not (run / "recorded").exists()
    (run / "trajectory.safetensors").unlink()
    again = resume(world, run)
    assert len(again.trajectory) == len(first.trajectory)


def test_nothing_left_begins_the_capture(tmp_path: Path, world: SimulatedWorld, interrupted: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(interrupted, run)
    shutil.rmtree(run / "recorded")
    with pytest.raises(StoreError, match="chunk 0 of"):
        resume(world, run)
    with pytest.raises(NoFramesError):
        resume(world, run)
    assert len(resume(world, run).trajectory) == 60
