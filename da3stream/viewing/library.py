"""viser, the library behind the page: the only file that imports it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import threading
import time
import warnings
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
DRAWING_TIMEOUT_S = 10.0
"""Who takes longer to draw does not answer."""
_QUICK_S = 0.1
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


def start_server(host: str, port: int, label: str = "da3stream") -> ViserServer:
    """A page without content at this address, with a panel of this title.

    Raises:
        ConfigError: the address cannot be used.
        MissingDependencyError: viser is not there, or in a version that cannot be guarded.
    """
    check_installed()
    import viser

    # Somebody who leaves at that moment is nothing to warn of.
    warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")
    port = free_port(host, port)
    with _LIBRARY_LOCK, _only_for_own_pages(OwnNames(host)) as served:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a table of addresses
            server = viser.ViserServer(host=host, port=port, label=label, verbose=False)
        if not served.is_set():
            server.stop()
            raise MissingDependencyError(
                "this viser would let any web page read the run", hint="pip install 'da3stream[view]'"
            )
    server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
    return server


def stop_server(server: ViserServer) -> None:
    """Take a page from the net."""
    with _LIBRARY_LOCK, contextlib.redirect_stdout(io.StringIO()):  # it says so
        server.stop()


def seconds_to_draw(client: ClientHandle) -> float | None:
    """How long a browser takes to draw what it was sent, and a small picture for us; None if it does not.

    How long messages are on their way is taken off. The first picture may wait for what it is still taking
    in: only a quick one counts.
    """
    try:
        first = _seconds_for(lambda: client.get_render(*_PROBE_PX, timeout=DRAWING_TIMEOUT_S))
        if first < _QUICK_S:
            return first
        on_the_way = min(_round_trip(client) for _ in range(3))
        second = _seconds_for(lambda: client.get_render(*_PROBE_PX, timeout=DRAWING_TIMEOUT_S))
    except (RuntimeError, TimeoutError):  # it is gone, too slow, or its page is in the background
        return None
    return max(0.0, second - on_the_way)


def _round_trip(client: ClientHandle) -> float:
    """Seconds to an answer for which nothing has to be drawn. TimeoutError if there is none."""

    def ask() -> None:
        with contextlib.suppress(RuntimeError):  # the browser keeps nothing for pages: that is an answer, too
            client.local_storage.get_item("da3stream", timeout=DRAWING_TIMEOUT_S)

    return _seconds_for(ask)


def _seconds_for(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


@contextlib.contextmanager
def _only_for_own_pages(names: OwnNames) -> Iterator[threading.Event]:
    """What viser serves meanwhile refuses pages of other origins, and other names.

    viser 1.1 does not look, and has no option for it; `websockets`, by which it serves, has one.

    Yields:
        Whether it has begun to serve so.
    """
    import websockets.asyncio.server as websockets_server

    original = websockets_server.serve
    served = threading.Event()

    def guarded(*args: Any, process_request: Callable[..., Any] | None = None, **options: Any) -> Any:
        def answer(connection: ServerConnection, request: Request) -> Any:
            host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
            if not names.may_ask(host, origin):
                return connection.respond(HTTPStatus.FORBIDDEN, f"{names.advice}\n")
            return None if process_request is None else process_request(connection, request)

        served.set()
        return original(*args, process_request=answer, **options)

    websockets_server.serve = guarded  # type: ignore[misc, assignment]
    try:
        yield served
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
