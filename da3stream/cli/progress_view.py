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
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from da3stream.progress import Progress

TITLES = {"start": "starting", "estimation": "reconstructing", "outputs": "writing", "done": "done"}
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
        self._stage, self._began, self._first = "", time.monotonic(), 0

    def of(self, progress: Progress) -> float | None:
        """The rate so far, or None before there is one."""
        now = time.monotonic()
        if progress.stage != self._stage or progress.reused:
            first = progress.frames if progress.reused else 0
            began = (
                now if progress.reused or progress.stage != "estimation" or not self._stage else self._began
            )
            self._stage, self._began, self._first = progress.stage, began, first
        done, seconds = progress.frames - self._first, now - self._began
        return done / seconds if done > 0 and seconds > 0 else None


class _TerminalView:
    """A bar with frames, frames a second, chunk and the time that is left."""

    def __init__(self) -> None:
        self._bar = Bar(
            TextColumn("{task.description:14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}
        self._rate = _Rate()

    def __enter__(self) -> _TerminalView:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        if progress.message:
            self._bar.console.print(progress.message, highlight=False, markup=False)
            return
        rate = self._rate.of(progress)
        if progress.stage == "start":
            self._bar.console.print(_plan(progress), highlight=False, markup=False)
        stage = "estimation" if progress.stage == "start" else progress.stage
        if stage == "done":
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(TITLES[stage], total=None, detail="")
        self._bar.update(
            self._tasks[stage],
            completed=progress.frames,
            total=progress.frames_total,
            detail=_detail(progress, rate),
        )


class _PlainView:
    """A line every few seconds."""

    def __init__(self) -> None:
        self._last = 0.0
        self._rate = _Rate()

    def __call__(self, progress: Progress) -> None:
        if progress.message:
            click.echo(progress.message, err=True)
            return
        rate = self._rate.of(progress)
        if progress.stage == "start":
            click.echo(_plan(progress), err=True)
        is_last = progress.frames == progress.frames_total
        if progress.stage in ("start", "done") or (
            time.monotonic() - self._last < SECONDS_BETWEEN_LINES and not is_last
        ):
            return
        self._last = time.monotonic()
        total = "" if progress.frames_total is None else f"/{progress.frames_total}"
        left = _seconds_left(progress, rate)
        click.echo(
            f"{TITLES[progress.stage]} {progress.frames}{total} frames, {_detail(progress, rate)}"
            + ("" if left is None else f", about {_duration(left)} left"),
            err=True,
        )


def _plan(progress: Progress) -> str:
    if progress.frames_total is None:
        return "an unknown number of frames"
    return f"about {progress.frames_total} frames in {progress.chunks} chunks"


def _detail(progress: Progress, rate: float | None) -> str:
    chunk = "" if progress.chunk == 0 else f"chunk {progress.chunk}"
    if chunk and progress.chunks is not None:
        chunk += f"/{progress.chunks}"
    speed = "" if rate is None else f"{rate:.2f} frames/s" if rate < 10 else f"{rate:.0f} frames/s"
    return ", ".join(part for part in (chunk, "reused" if progress.reused else speed) if part)


def _seconds_left(progress: Progress, rate: float | None) -> float | None:
    if rate is None or progress.frames_total is None or progress.frames >= progress.frames_total:
        return None
    return (progress.frames_total - progress.frames) / rate


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
