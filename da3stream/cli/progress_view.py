"""How progress is shown: a bar on a terminal, plain lines elsewhere, JSON lines for machines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from da3stream.progress import Progress

TITLES = {"estimation": "reconstructing", "outputs": "writing"}
SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def show_progress(*, as_json: bool) -> Iterator[Callable[[Progress], None]]:
    """A callback that shows what it is given, in the way that fits standard error."""
    if as_json:
        yield _json_line
    elif sys.stderr.isatty():
        with _TerminalView() as view:
            yield view
    else:
        yield _PlainView()


def _json_line(progress: Progress) -> None:
    click.echo(json.dumps({name: value for name, value in asdict(progress).items() if value is not None}))


class _Rate:
    """Frames a second of the current stage, not counting what was reused."""

    def __init__(self) -> None:
        self._stage, self._began, self._first = "", 0.0, 0

    def of(self, progress: Progress) -> float | None:
        """The rate so far, or None before there is one."""
        now = time.monotonic()
        stage = _stage(progress)
        if stage != self._stage or progress.reused:
            self._stage, self._began, self._first = stage, now, progress.frames
        done, seconds = progress.frames - self._first, now - self._began
        return done / seconds if done > 0 and seconds > 0 else None


class _TerminalView:
    """A bar with frames, frames a second, chunk and the time that is left."""

    def __init__(self, console: Console | None = None) -> None:
        self._bar = Bar(
            TextColumn("{task.description:14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console or Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}
        self._rate = _Rate()

    def __enter__(self) -> _TerminalView:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        if line := _news(progress):
            self._bar.console.print(line, highlight=False, markup=False)
        if progress.message or progress.stage == "done":
            return
        stage = _stage(progress)
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(TITLES[stage], total=None, detail="")
        self._bar.update(
            self._tasks[stage],
            completed=progress.frames,
            total=progress.frames_total,
            detail=_detail(progress, self._rate.of(progress)),
        )


class _PlainView:
    """A line every few seconds."""

    def __init__(self) -> None:
        self._last = 0.0
        self._rate = _Rate()

    def __call__(self, progress: Progress) -> None:
        if line := _news(progress):
            click.echo(line, err=True)
        if progress.message or progress.stage == "done":
            return
        detail = _detail(progress, self._rate.of(progress))
        is_due = time.monotonic() - self._last >= SECONDS_BETWEEN_LINES
        if progress.stage == "start" or not (is_due or progress.frames == progress.frames_total):
            return
        self._last = time.monotonic()
        total = "" if progress.frames_total is None else f"/{progress.frames_total}"
        click.echo(f"{TITLES[_stage(progress)]} {progress.frames}{total} frames, {detail}", err=True)


def _stage(progress: Progress) -> str:
    """The first chunk's time counts from the start of the run."""
    return "estimation" if progress.stage == "start" else progress.stage


def _news(progress: Progress) -> str | None:
    """A line that is worth keeping, if there is one."""
    if progress.message or progress.stage != "start":
        return progress.message
    if progress.frames_total is None:
        return "an unknown number of frames"
    return f"about {progress.frames_total} frames in {progress.chunks} chunks"


def _detail(progress: Progress, rate: float | None) -> str:
    """Chunk, speed and the time that is left, as far as they are known."""
    parts = []
    if progress.chunk:
        parts.append(f"chunk {progress.chunk}" + (f"/{progress.chunks}" if progress.chunks else ""))
    if progress.reused:
        parts.append("reused")
    elif rate is not None:
        parts.append(f"{rate:.2f} frames/s" if rate < 10 else f"{rate:.0f} frames/s")
        if progress.frames_total is not None and progress.frames < progress.frames_total:
            parts.append(f"about {_duration((progress.frames_total - progress.frames) / rate)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
