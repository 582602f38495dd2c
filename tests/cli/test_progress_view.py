"""What a run shows while it goes on."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from da3stream.cli import progress_view
from da3stream.cli.progress_view import show_progress
from da3stream.progress import Progress

STEPS = (
    Progress(stage="start", message="model classical"),
    Progress(stage="start", frames_total=120, chunks=3),
    Progress(stage="estimation", chunk=1, chunks=3, frames=60, frames_total=120, reused=True),
    Progress(stage="estimation", chunk=2, chunks=3, frames=90, frames_total=120),
    Progress(stage="estimation", message="chunk 1: it is dark"),
    Progress(stage="estimation", chunk=3, chunks=3, frames=120, frames_total=120),
    Progress(stage="outputs", chunk=3, chunks=3, frames=120, frames_total=120),
    Progress(stage="done", frames=120, frames_total=120),
)


@pytest.fixture(autouse=True)
def ten_seconds_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock comes ten seconds after the one before."""
    ticks = iter(range(0, 10_000, 10))
    monkeypatch.setattr(progress_view.time, "monotonic", lambda: float(next(ticks)))


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(as_json=False) as show:
        for step in STEPS:
            show(step)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "model classical",
        "about 120 frames in 3 chunks",
        "reconstructing 60/120 frames, chunk 1/3, reused",
    ]
    assert lines[3].startswith("reconstructing 90/120 frames, chunk 2/3, 1.00 frames/s, about 30 s left")
    assert lines[4] == "chunk 1: it is dark"
    assert lines[-1] == "writing 120/120 frames, chunk 3/3"


def test_an_unknown_length_has_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(as_json=False) as show:
        show(Progress(stage="start"))
        show(Progress(stage="estimation", chunk=1, frames=60))
    assert capsys.readouterr().err.splitlines() == [
        "an unknown number of frames",
        "reconstructing 60 frames, chunk 1, 3.00 frames/s",
    ]


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(as_json=True) as show:
        for step in STEPS:
            show(step)
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["stage"] for each in shown] == [step.stage for step in STEPS]
    assert shown[2]["reused"] is True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the bar has a clock of its own
    screen = io.StringIO()
    with progress_view._TerminalView(Console(file=screen, force_terminal=True, width=120)) as view:
        for step in STEPS:
            view(step)
    shown = screen.getvalue()
    for text in (
        "model classical",
        "about 120 frames in 3 chunks",
        "it is dark",
        "120/120",
        "chunk 3/3",
        "writing",
    ):
        assert text in shown
