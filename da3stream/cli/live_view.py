"""`run --view`: the viewer as a child process beside the run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from da3stream.progress import Progress, ProgressCallback


class _Child:
    """`da3stream view --follow`. It ends when its standard input does, thus with this process."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, progress: Progress) -> None:
        """Begin with the first chunk: by then an older run in the directory, if there was one, is gone."""
        if self._process is None and progress.stage != "start":
            command = [sys.executable, "-m", "da3stream", "view", str(self._output), "--follow"]
            self._process = subprocess.Popen(
                [*command, "--while-stdin", "--port", "0"],
                stdin=subprocess.PIPE,
                stdout=sys.stderr.fileno(),  # our own output may be JSON lines
                start_new_session=True,  # Ctrl-C is for the run
            )

    def wait(self) -> None:
        """Until Ctrl-C, or until it has ended by itself."""
        if self._process is not None and self._process.poll() is None:
            click.echo("the page stays until Ctrl-C", err=True)
            try:
                self._process.wait()
            except KeyboardInterrupt:
                click.echo("page closed", err=True)

    def end(self) -> None:
        """Close the page."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()


@contextmanager
def live_view(output: Path, *, wanted: bool) -> Iterator[ProgressCallback | None]:
    """A listener to the progress of a run that shows it in the browser; None if that is not wanted.

    Raises:
        MissingDependencyError: viser is not there.
    """
    if not wanted:
        yield None
        return
    from da3stream.viewing.library import check_installed

    check_installed()
    child = _Child(output)
    try:
        yield child
        if sys.stdin.isatty():
            child.wait()
    finally:
        child.end()
