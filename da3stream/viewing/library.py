"""viser, the library behind the page: the only file that imports it."""

from __future__ import annotations

import contextlib
import io
import socket
from typing import TYPE_CHECKING

from da3stream.errors import ConfigError, MissingDependencyError

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

    __all__ = [
        "CameraFrustumHandle",
        "ClientHandle",
        "FrameHandle",
        "GuiSliderHandle",
        "LineSegmentsHandle",
        "PointCloudHandle",
        "ViserServer",
    ]


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
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a table with addresses of its own
        server = viser.ViserServer(host=host, port=port, label="da3stream", verbose=False)
    server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
    return server


def stop_server(server: ViserServer) -> None:
    """Take a page from the net."""
    with contextlib.redirect_stdout(io.StringIO()):  # it says so
        server.stop()


def free_port(host: str, port: int) -> int:
    """The port, if nothing listens there; instead of 0 any that is free.

    Raises:
        ConfigError: something does; viser would take another port without a word.
    """
    try:
        with socket.create_server((host, port)) as listener:
            return int(listener.getsockname()[1])
    except OSError as error:
        raise ConfigError(
            f"nothing can listen on {host}:{port}",
            got=error.strerror or str(error),
            hint="Name another port with --port, or 0 for any that is free.",
        ) from None
