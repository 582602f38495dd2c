"""The uninterrupted run, and what was on the disk at each of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from da3stream.synthetic.capture import SimulatedWorld

from . import sweeps
from .capture import capture, outputs_of, reconstruct
from .doubles import RecordingFileSystem, WatchedFileSystem


@pytest.fixture(scope="session")
def world() -> SimulatedWorld:
    return capture()


@pytest.fixture(scope="session")
def recorded(
    tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld
) -> Iterator[RecordingFileSystem]:
    folder = tmp_path_factory.mktemp("recorded") / "run"
    recording = RecordingFileSystem(folder, seed=1)
    reconstruct(world, folder, recording)
    yield recording
    recording.close()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld) -> tuple[Path, dict[str, bytes]]:
    """The run directory of an uninterrupted run, and what has to be the same in every other."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    reconstruct(world, folder, WatchedFileSystem())
    return folder, outputs_of(folder)


@pytest.fixture(scope="session")
def half(
    tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld, whole: tuple[Path, dict[str, bytes]]
) -> sweeps.Half:
    """A damaged half of a run."""
    return sweeps.half_of(world, whole[0], tmp_path_factory.mktemp("half") / "run")
