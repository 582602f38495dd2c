"""Killed, cut off from power or refused a write at any step, a run is resumed and comes out the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from da3stream.synthetic.capture import SimulatedWorld

from . import sweeps
from .capture import reconstruct
from .doubles import RecordingFileSystem, WatchedFileSystem

Whole = tuple[Path, dict[str, bytes]]
SLOW = pytest.mark.slow


def spread(count: int, most: int) -> list[int]:
    """At most so many of 0 .. count - 1, the first and the last among them."""
    return sorted({round(k * (count - 1) / max(1, most - 1)) for k in range(most)})


@pytest.mark.parametrize("kind", ["killed", "cut_off", "cut_short"])
@pytest.mark.parametrize("most", [5, pytest.param(30, marks=SLOW)], ids=["some", "more"])
def test_what_a_kill_or_a_power_cut_leaves_is_resumed(
    tmp_path: Path, world: SimulatedWorld, recorded: RecordingFileSystem, whole: Whole, kind: str, most: int
) -> None:
    """`killed`: all that was written is there. `cut_off`: what was synced. `cut_short`: some of the rest.

    There are about 110 distinct states of each kind.
    """
    states = list(getattr(recorded, kind).values())
    assert len(states) >= 90
    problems = {
        number: sweeps.resumed(world, states[number], whole[1], tmp_path / "run")
        for number in spread(len(states), min(most, len(states)))
    }
    assert {number: problem for number, problem in problems.items() if problem} == {}


@pytest.mark.parametrize("most", [3, pytest.param(10, marks=SLOW)], ids=["some", "more"])
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
@pytest.mark.parametrize("step", [250, pytest.param(25, marks=SLOW)], ids=["some", "more"])
def test_a_call_that_fails_once_is_one_line_and_resumable(
    tmp_path: Path, world: SimulatedWorld, recorded: RecordingFileSystem, whole: Whole, number: int, step: int
) -> None:
    for at in range(number % step, recorded.calls, step):
        assert sweeps.failed(world, at, number, whole[1], tmp_path / "run") is None, (at, recorded.names[at])


@pytest.mark.parametrize("most", [3, pytest.param(20, marks=SLOW)], ids=["some", "more"])
@pytest.mark.parametrize("trial", [sweeps.killed_again, sweeps.failed_again])
def test_a_run_that_is_interrupted_while_it_is_mended(
    tmp_path: Path, world: SimulatedWorld, half: sweeps.Half, whole: Whole, trial: object, most: int
) -> None:
    """Of a damaged half, with a journal that was cut short, and files that a killed process left."""
    for at in spread(len(half.calls), most):
        assert trial(world, half, at, whole[1], tmp_path / "run") is None, (at, half.calls[at])


@pytest.mark.parametrize("most", [3, pytest.param(20, marks=SLOW)], ids=["some", "more"])
def test_a_run_that_is_killed_while_it_throws_away_what_is_not_to_be_kept(
    tmp_path: Path, world: SimulatedWorld, most: int
) -> None:
    calls, expected = sweeps.keeping_nothing(world, tmp_path / "whole")
    removals = [at for at, name in enumerate(calls) if name in ("unlink", "rmdir")][1:]
    assert len(removals) > 25
    for at in (removals[k] for k in spread(len(removals), most)):
        assert sweeps.killed(world, at, expected, tmp_path / "run", keep="none") is None, (at, calls[at])


def test_the_calls_are_the_same_every_time(
    tmp_path: Path, world: SimulatedWorld, recorded: RecordingFileSystem
) -> None:
    """Otherwise the n-th call would be another one in each trial, though chunks are estimated in a thread.

    That of a live input records in a thread, too, so there the order varies.
    """
    again = WatchedFileSystem()
    reconstruct(world, tmp_path / "run", again)
    assert again.names == recorded.names


def test_every_kind_of_call_is_made(recorded: RecordingFileSystem, half: sweeps.Half) -> None:
    """Otherwise the sweeps would say nothing about them."""
    own = {name for name in vars(WatchedFileSystem) if name[0] != "_"} - {"step"}
    assert own == set(recorded.names) | set(half.calls)
