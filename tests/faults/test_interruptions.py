"""Killed, cut off from power or refused a write at any step, a run is resumed and comes out the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from da3stream.synthetic.capture import SimulatedWorld

from . import sweeps
from .doubles import RecordingFileSystem, WatchedFileSystem

Whole = tuple[Path, dict[str, bytes]]
ALL = pytest.mark.slow


def spread(count: int, most: int) -> list[int]:
    """At most so many of 0 .. count - 1, the first and the last among them."""
    return sorted({round(k * (count - 1) / max(1, most - 1)) for k in range(most)})


@pytest.mark.parametrize("kind", ["killed", "cut_off", "cut_short"])
@pytest.mark.parametrize("most", [8, pytest.param(10_000, marks=ALL)], ids=["some", "all"])
def test_what_a_kill_or_a_power_cut_leaves_is_resumed(
    tmp_path: Path, world: SimulatedWorld, recorded: RecordingFileSystem, whole: Whole, kind: str, most: int
) -> None:
    """`killed`: all that was written is there. `cut_off`: what was synced. `cut_short`: some of the rest."""
    states = list(getattr(recorded, kind).values())
    assert len(states) >= 90
    problems = {
        number: sweeps.resumed(world, states[number], whole[1], tmp_path / "run")
        for number in spread(len(states), min(most, len(states)))
    }
    assert {number: problem for number, problem in problems.items() if problem} == {}


@pytest.mark.parametrize("most", [3, pytest.param(15, marks=ALL)], ids=["some", "more"])
@pytest.mark.parametrize("trial", [sweeps.killed, sweeps.killed_for_real])
def test_a_process_that_dies_at_a_call(
    tmp_path: Path,
    world: SimulatedWorld,
    recorded: RecordingFileSystem,
    whole: Whole,
    trial: object,
    most: int,
) -> None:
    """The recorded states are what such a process leaves: here it does die."""
    for at in spread(recorded.calls, most):
        assert trial(world, at, whole[1], tmp_path / "run") is None, at


@pytest.mark.parametrize("number", sweeps.FAILURES)
@pytest.mark.parametrize("step", [90, pytest.param(13, marks=ALL)], ids=["some", "more"])
def test_a_call_that_fails_once_is_one_line_and_resumable(
    tmp_path: Path, world: SimulatedWorld, recorded: RecordingFileSystem, whole: Whole, number: int, step: int
) -> None:
    for at in range(number % step, recorded.calls, step):
        assert sweeps.failed(world, at, number, whole[1], tmp_path / "run") is None, (at, recorded.names[at])


def test_every_kind_of_call_is_made(recorded: RecordingFileSystem) -> None:
    """Otherwise the sweeps would say nothing about them. Only a damaged journal is truncated."""
    primitives = {"open", "write", "fsync", "replace", "unlink", "mkdir", "rmdir"}
    assert primitives == set(recorded.names)
    assert primitives | {"truncate"} == {name for name in vars(WatchedFileSystem) if name[0] != "_"} - {
        "step"
    }
