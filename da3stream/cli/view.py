"""`da3stream view`"""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from da3stream.viewing.gallery_server import Gallery

DEFAULT_PORT = 8080


@click.command()
@click.argument("path", metavar="RUN|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--follow", is_flag=True, help="RUN is still being written (or not begun): show it as it grows."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Of the page; 0: any that is free.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on. There is no password: everybody who reaches the port sees the runs. "
    "Better stay at the default and use `ssh -L`, see above.",
)
@click.option(
    "--open/--no-open", "opens", default=None, help="Open a browser; by default if there is a display."
)
@click.option("--while-stdin", is_flag=True, hidden=True)
def command(path: Path, follow: bool, port: int, host: str, opens: bool | None, while_stdin: bool) -> None:
    """Look at a RUN in the browser: cloud, cameras, path, images and depth along a timeline.

    Of a FOLDER that holds several runs: a list to choose from.

    \b
    da3stream view out
    da3stream view out --follow          beside a `da3stream run` that writes it
    da3stream view runs/                 all runs in a folder; viewers open at the ports that follow

    Needs `pip install 'da3stream[view]'`. Only this machine can open the page. From another one:
    `ssh -L 8080:127.0.0.1:8080 MACHINE`, then http://127.0.0.1:8080. Ctrl-C ends it.

    With another --host, it answers to IP addresses, to that host and to the names of this machine.
    """
    from da3stream.viewing.library import check_installed
    from da3stream.viewing.viewed_run import wait_for_run
    from da3stream.viewing.viewer import open_viewer

    check_installed()
    if while_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    if follow:
        wait_for_run(path)
    is_gallery = path.is_dir() and not _is_run(path) and not follow
    shown = _open_gallery(path, host, port) if is_gallery else open_viewer(path, host, port, follow=follow)
    _announce(path, host, shown.port, opens)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("closed")
    finally:
        shown.close()


def _is_run(path: Path) -> bool:
    from da3stream.errors import RunCorruptError, StoreError
    from da3stream.store import read_manifest

    try:
        read_manifest(path)
    except RunCorruptError:  # viewing it says what is wrong
        return True
    except StoreError:
        return False
    return True


def _open_gallery(folder: Path, host: str, port: int) -> Gallery:
    """The list of runs at this port, and their viewers at the next free ones."""
    from da3stream.viewing.gallery_server import Gallery
    from da3stream.viewing.library import free_port
    from da3stream.viewing.viewer import open_viewer

    gallery = Gallery(
        folder,
        host,
        free_port(host, port),
        lambda root, viewer_port: open_viewer(root, host, viewer_port, follow=True),
    )
    gallery.start()
    return gallery


def _end_with_stdin() -> None:
    """The process that started this one has ended, however: nobody needs the page any more."""
    sys.stdin.buffer.read()
    os._exit(0)


def _announce(path: Path, host: str, port: int, opens: bool | None) -> None:
    """Say where the page is; open it if there is a display."""
    address = f"http://{host}:{port}"
    click.echo(f"{path}: {address}  (Ctrl-C ends)")
    click.echo(
        f"from another machine: ssh -L {port}:{host}:{port} THIS_MACHINE, then http://127.0.0.1:{port}"
    )
    if opens or (opens is None and _has_display()):
        webbrowser.open(address)


def _has_display() -> bool:
    is_remote = "SSH_CONNECTION" in os.environ
    return not is_remote and (
        sys.platform == "darwin" or any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    )
