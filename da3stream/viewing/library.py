"""viser, the library behind the page: the only file that imports it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from da3stream.errors import ConfigError, MissingDependencyError
from da3stream.viewing.hosts import ALL_ADDRESSES, OwnNames, family_of, in_address

if TYPE_CHECKING:
    from viser import (
        CameraFrustumHandle,
        ClientHandle,
        FrameHandle,
        GuiSliderHandle,
        LineSegmentsHandle,
        PointCloudHandle,
        ViserServer,
    )
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request

    __all__ = [
        "CameraFrustumHandle",
        "ClientHandle",
        "FrameHandle",
        "GuiSliderHandle",
        "LineSegmentsHandle",
        "PointCloudHandle",
        "ViserServer",
    ]


_PROBE_PX = (16, 16)
_PROBE_TIMEOUT_S, _QUICK_S = 10.0, 0.1
_LIBRARY_LOCK = threading.Lock()
"""Standard output and the function that serves belong to the whole process."""


def check_installed() -> None:
    """Raise MissingDependencyError if viser is not there."""
    try:
        import viser  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "the viewer needs viser", got=str(error), hint="pip install 'da3stream[view]'"
        ) from None


def start_server(host: str, port: int) -> ViserServer:
    """A page without content at this address.

    Raises:
        ConfigError: the address cannot be used.
        MissingDependencyError: viser is not there.
    """
    check_installed()
    import viser

    port = free_port(host, port)
    with (
        _LIBRARY_LOCK,
        _only_for_own_pages(OwnNames(host)),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        server = viser.ViserServer(host=host, port=port, label="da3stream", verbose=False)
    server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
    return server


def stop_server(server: ViserServer) -> None:
    """Take a page from the net."""
    with _LIBRARY_LOCK, contextlib.redirect_stdout(io.StringIO()):  # it says so
        server.stop()


def seconds_to_draw(client: ClientHandle) -> float | None:
    """How long a browser takes to draw what it was sent, and to answer; None if it does not.

    It draws the page and a small picture for us. The first time it may still be taking things in: only a
    quick answer counts then.
    """
    seconds = 0.0
    for _ in range(2):
        began = time.monotonic()
        try:
            client.get_render(*_PROBE_PX, timeout=_PROBE_TIMEOUT_S)
        except (RuntimeError, TimeoutError):  # it is gone, or its page is in the background
            return None
        seconds = time.monotonic() - began
        if seconds < _QUICK_S:
            break
    return seconds


@contextlib.contextmanager
def _only_for_own_pages(names: OwnNames) -> Iterator[None]:
    """What viser serves meanwhile refuses pages of other origins, and other names.

    viser 1.1 does not look, and has no option for it; `websockets`, by which it serves, has one.
    """
    import websockets.asyncio.server as websockets_server

    original = websockets_server.serve

    def guarded(*args: Any, process_request: Callable[..., Any] | None = None, **options: Any) -> Any:
        def answer(connection: ServerConnection, request: Request) -> Any:
            host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
            if not names.may_ask(host, origin):
                return connection.respond(HTTPStatus.FORBIDDEN, f"{names.advice}\n")
            return None if process_request is None else process_request(connection, request)

        return original(*args, process_request=answer, **options)

    websockets_server.serve = guarded  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        websockets_server.serve = original  # type: ignore[misc]


def free_port(host: str, port: int) -> int:
    """The port, if nothing listens there; instead of 0 any that is free.

    Raises:
        ConfigError: something does, and viser would take another port without a word; or this machine has no
            such address.
    """
    where = f"{in_address(host or '::')}:{port}"
    try:
        family = family_of(host)
        takes_both = family == socket.AF_INET6 and host in ALL_ADDRESSES
        with socket.create_server((host, port), family=family, dualstack_ipv6=takes_both) as listener:
            return int(listener.getsockname()[1])
    except OverflowError:
        raise ConfigError(f"nothing can listen on {where}", expected="a port up to 65535") from None
    except (OSError, ValueError) as error:  # ValueError: no name of a host, or no IPv6 on this machine
        raise _cannot_listen(where, error) from None


def _cannot_listen(where: str, error: OSError | ValueError) -> ConfigError:
    number = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
    is_host = number in (None, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return ConfigError(
        f"nothing can listen on {where}",
        # `create_server` puts the address into its own words
        got=(getattr(error, "strerror", None) or error) if number is None else os.strerror(number),
        hint="Name an address of this machine with --host: 127.0.0.1 or ::1 for itself alone."
        if is_host
        else "Name another port with --port, or 0 for any that is free.",
    )
