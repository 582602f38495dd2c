"""`da3stream view`"""

from __future__ import annotations

import os
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from da3stream.viewing.gallery_server import Gallery
    from da3stream.viewing.viewer import Viewer

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
    help="The address to listen on, 0.0.0.0 or :: for all. There is no password: everybody who reaches the "
    "port sees the runs. Better stay at the default and use `ssh -L`, see above.",
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
    da3stream view runs/                 all runs in a folder; viewers open at the ports that follow,
                                         at most 4 stay open

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
        _check_followable(path)
        wait_for_run(path)
    is_gallery = path.is_dir() and not _is_run(path) and not follow
    if is_gallery:
        shown: Gallery | Viewer = _open_gallery(path, host, port)
    else:
        shown = open_viewer(path, _viewer_host(host), port, follow=follow)
    _announce(path, host, shown.port, opens)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("closed")
    finally:
        shown.close()


def _is_run(path: Path) -> bool:
    from da3stream.errors import RunCorruptError, RunMismatchError, StoreError
    from da3stream.store import read_manifest

    try:
        read_manifest(path)
    except (RunCorruptError, RunMismatchError):  # viewing it says what is wrong
        return True
    except StoreError:
        return False
    return True


def _check_followable(path: Path) -> None:
    """Say that a run is waited for, if it has not begun.

    Raises:
        StoreError: there can be none.
    """
    from da3stream.errors import StoreError
    from da3stream.store.manifest import MANIFEST
    from da3stream.viewing.gallery import find_runs

    if (path / MANIFEST).is_file():
        return
    existing = next(found for found in (path, *path.absolute().parents) if found.exists())
    if not existing.is_dir():
        raise StoreError(f"{existing} is a file", expected="the folder of a run")
    if existing == path and find_runs(path).runs:
        raise StoreError(
            f"{path} is no run directory, but holds runs", hint="Leave out --follow to see the list."
        )
    click.echo(f"waiting for {path / MANIFEST} (Ctrl-C ends)")


def _viewer_host(host: str) -> str:
    """asyncio, by which viewers serve, listens on `::` by IPv6 alone, and on an empty host by IPv4, too."""
    return "" if host == "::" else host


def _open_gallery(folder: Path, host: str, port: int) -> Gallery:
    """The list of runs at this port, and their viewers at the next free ones."""
    from da3stream.viewing.gallery_server import Gallery
    from da3stream.viewing.viewer import open_viewer

    gallery = Gallery(
        folder,
        host,
        port,
        lambda root, viewer_port: open_viewer(root, _viewer_host(host), viewer_port, follow=True),
    )
    gallery.start()
    return gallery


def _end_with_stdin() -> None:
    """The process that started this one has ended, however: nobody needs the page any more."""
    sys.stdin.buffer.read()
    os._exit(0)


def _announce(path: Path, host: str, port: int, opens: bool | None) -> None:
    """Say where the page is, for here and for other machines; open it if there is a display."""
    from da3stream.viewing.hosts import ALL_ADDRESSES, LOCAL_HOSTS, in_address

    is_for_all = host in ALL_ADDRESSES
    address = f"http://{'127.0.0.1' if is_for_all else in_address(host)}:{port}"
    click.echo(f"{path}: {address}  (Ctrl-C ends)")
    if is_for_all:
        click.echo(f"from another machine: http://{socket.gethostname()}:{port}")
    elif host in LOCAL_HOSTS:
        tunnel = f"ssh -L {port}:{in_address(host)}:{port} THIS_MACHINE"
        click.echo(f"from another machine: {tunnel}, then http://127.0.0.1:{port}")
    if opens or (opens is None and _has_display()):
        webbrowser.open(address)


def _has_display() -> bool:
    is_remote = "SSH_CONNECTION" in os.environ
    return not is_remote and (
        sys.platform == "darwin" or any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    )
