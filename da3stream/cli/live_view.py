"""`run --view`: the viewer as a child process beside the run."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from da3stream.progress import Progress, ProgressCallback

view_option = click.option(
    "--view",
    is_flag=True,
    help="Show the run in the browser while it goes on, from its first chunk on. The address is said: "
    "http://127.0.0.1:8080, or a free port if that is taken. On a terminal the page stays until Ctrl-C, "
    "otherwise it ends with the run. Needs `pip install 'da3stream[view]'`.",
)


class LiveView:
    """`da3stream view --follow`. It ends when its standard input does, thus with this process."""

    def __init__(self, output: Path) -> None:
        self._output, self._address = output, ""
        self._process: subprocess.Popen[str] | None = None

    def beside(self, shown: ProgressCallback) -> ProgressCallback:
        """Tells `shown`, and opens the page once there is something to see."""

        def tell(progress: Progress) -> None:
            shown(progress)
            # With the first chunk an older run in the directory, if there was one, is gone.
            if self._process is None and progress.stage != "start":
                self._open(shown)

        return tell

    def _open(self, shown: ProgressCallback) -> None:
        command = [sys.executable, "-m", "da3stream", "view", str(self._output), "--follow", "--while-stdin"]
        self._process = subprocess.Popen(
            [*command, "--port", str(_port())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the run
        )
        threading.Thread(target=self._listen, args=(self._process, shown), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str], shown: ProgressCallback) -> None:
        from da3stream.progress import Progress

        assert process.stdout is not None
        for line in process.stdout:
            address = re.search(r"http://\S+", line)
            if address and not self._address:
                self._address = address.group()
                shown(Progress(stage="estimation", message=f"see it at {self._address}"))

    def wait(self) -> None:
        """Until Ctrl-C, or until it has ended by itself."""
        if self._process is not None and self._process.poll() is None:
            click.echo(f"the page {self._address} stays until Ctrl-C", err=True)
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


def _port() -> int:
    """The usual port of the viewer; 0, any that is free, if it is taken."""
    from da3stream.cli.view import DEFAULT_PORT
    from da3stream.errors import ConfigError
    from da3stream.viewing.library import free_port

    try:
        return free_port("127.0.0.1", DEFAULT_PORT)
    except ConfigError:
        return 0


@contextmanager
def live_view(output: Path, *, wanted: bool) -> Iterator[LiveView | None]:
    """The page of a run that is about to begin; None if that is not wanted.

    Raises:
        MissingDependencyError: viser is not there.
    """
    if not wanted:
        yield None
        return
    from da3stream.viewing.library import check_installed

    check_installed()
    page = LiveView(output)
    try:
        yield page
        if sys.stdin.isatty():
            page.wait()
    finally:
        page.end()
