"""The gallery's web server: answers requests for the list, its pictures and reports, and opens viewers."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from da3stream.errors import ConfigError, Da3StreamError, RunCorruptError, StoreError
from da3stream.store.run import REPORT
from da3stream.viewing.gallery import (
    FoundRuns,
    find_runs,
    gallery_page,
    has_report,
    no_picture,
    thumbnail,
    unreadable_line,
)
from da3stream.viewing.hosts import ALL_ADDRESSES, OwnNames, family_of, host_in
from da3stream.viewing.library import free_port

MAX_OPEN = 4
"""Viewers that are open at a time; the one opened longest ago makes room for the next."""
_POLL_S = 0.1
"""How long it takes to notice that it is to end."""
_OUR_SITES = (None, "none", "same-origin", "same-site")
"""What browsers say of requests that come from this page, from a page on another port of this machine, or
from the user (https://www.w3.org/TR/fetch-metadata/); programs say nothing."""

STRICT_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of what loads nothing, https://www.w3.org/TR/CSP3/"""
LIST_POLICY = f"{STRICT_POLICY}; img-src 'self' data:; style-src 'unsafe-inline'"
REPORT_POLICY = f"sandbox; {STRICT_POLICY}; img-src data:; style-src 'unsafe-inline'"
"""A run may be a stranger's, and so its report: it runs no scripts, sends nothing, and is no page of this
server for any other. Our own reports need no more than this."""


class OpenViewer(Protocol):
    """A viewer that listens on a port."""

    @property
    def port(self) -> int: ...
    @property
    def is_stopped(self) -> bool: ...
    def close(self) -> None: ...


class Gallery:
    """Serves a folder of runs.

    Args:
        folder: where the runs are.
        host: address to listen on.
        port: of the list; 0: any that is free.
        open_viewer: shows a run on a port, 0: any that is free; called again for the same run only after its
            viewer was closed.

    Raises:
        StoreError: there is no run in the folder.
        ConfigError: the address cannot be used.
    """

    def __init__(
        self, folder: Path, host: str, port: int, open_viewer: Callable[[Path, int], OpenViewer]
    ) -> None:
        self._folder, self._host, self._open_viewer = folder, host, open_viewer
        self._names = OwnNames(host)
        self._open: OrderedDict[Path, OpenViewer] = OrderedDict()
        self._ports: dict[Path, int] = {}
        """At which the viewer of a run was opened last; tabs may still show it."""
        self._lock = threading.Lock()
        self._found = self._list()
        if not self._found.runs:
            raise StoreError(
                f"{folder} holds no run",
                got=unreadable_line(self._found.unreadable) if self._found.unreadable else None,
                expected="a run directory, or a folder with some in it",
            )
        self._server = _Server(host, free_port(host, port), _handler_of(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), daemon=True, name="gallery"
        )

    @property
    def port(self) -> int:
        """On which the list is."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer; returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Close the list and all viewers."""
        if self._thread.is_alive():
            self._server.shutdown()  # waits for `serve_forever`, for ever if that never began
            self._thread.join()
        self._server.server_close()
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def answer(self, path: str) -> Answer:
        """What belongs to a path of this page."""
        if path == "/":
            self._found = self._list()
            return Answer.of_page(gallery_page(self._folder.resolve().name, self._found))
        asked = re.fullmatch(r"/(open|thumbnail|report)/(.+)", path)
        name = os.fsdecode(unquote_to_bytes(asked[2])) if asked else None
        run = next((run for run in self._found.runs if run.name == name), None)
        if asked is None or run is None:  # only what is in the list is reached
            return Answer.not_found()
        if asked[1] == "open":
            return Answer(status=HTTPStatus.SEE_OTHER, viewer_port=self._viewer_of(run.root).port)
        if asked[1] == "thumbnail":
            return _picture(run.root)
        if not has_report(run.root):
            return Answer.not_found()
        return Answer(body=(run.root / REPORT).read_bytes(), policy=REPORT_POLICY)

    def refusal(self, host: str, site: str | None) -> str | None:
        """Why a request gets no answer; None if it gets one. Pages elsewhere must neither use this server nor
        learn of it.

        Args:
            host: how it calls this server, as of `host_in`.
            site: its `Sec-Fetch-Site`, None if it has none. Browsers do not send it over plain http but to
                this machine itself: a server for others may be asked by a page elsewhere, in the name of its
                reader, and that page cannot read the answer.
        """
        if site not in _OUR_SITES:
            return "Another page has led here: type the address into the browser instead."
        return None if self._names.include(host) else self._names.advice

    def _list(self) -> FoundRuns:
        return find_runs(self._folder)

    def _viewer_of(self, root: Path) -> OpenViewer:
        with self._lock:
            if root in self._open and self._open[root].is_stopped:
                self._open.pop(root).close()
            if root not in self._open:
                while len(self._open) >= MAX_OPEN:
                    self._open.popitem(last=False)[1].close()
                self._open[root] = self._open_viewer(root, self._viewer_port(root))
                self._ports[root] = self._open[root].port
            return self._open[root]

    def _viewer_port(self, root: Path) -> int:
        """A port for the viewer of a run: its own of before; or the first free one after the list's, which a
        tunnel may know; or any. Never that of another run: its tabs connect again by themselves, and would
        show this one."""
        others = {port for run, port in self._ports.items() if run != root}
        own = [self._ports[root]] if root in self._ports else []
        for port in (*own, *range(self.port + 1, self.port + 1 + MAX_OPEN)):
            if port not in others:
                with contextlib.suppress(ConfigError):
                    return free_port(self._host, port)
        while (port := free_port(self._host, 0)) in others:
            pass
        return port


class _Server(ThreadingHTTPServer):
    """Listens on a host by IPv4 or IPv6, on `::` by both."""

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = family_of(host)
        self._takes_both = self.address_family == socket.AF_INET6 and host in ALL_ADDRESSES
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        if self._takes_both:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _picture(root: Path) -> Answer:
    """A run's thumbnail, or a picture that says why there is none."""
    try:
        jpeg = thumbnail(root)
    except RunCorruptError:
        return Answer.of_svg(no_picture("picture cannot be read"))
    return Answer.of_svg(no_picture("no picture")) if jpeg is None else Answer(body=jpeg, type="image/jpeg")


class Answer:
    """What a request gets."""

    def __init__(
        self,
        *,
        body: bytes = b"",
        type: str = "text/html; charset=utf-8",
        status: HTTPStatus = HTTPStatus.OK,
        viewer_port: int | None = None,
        policy: str = STRICT_POLICY,
    ) -> None:
        self.body, self.type, self.status, self.viewer_port = body, type, status, viewer_port
        self.policy = policy

    @classmethod
    def of_page(cls, text: str) -> Answer:
        """A page."""
        return cls(body=text.encode(errors="replace"), policy=LIST_POLICY)

    @classmethod
    def of_svg(cls, text: str) -> Answer:
        """A drawing."""
        return cls(body=text.encode(), type="image/svg+xml")

    @classmethod
    def not_found(cls) -> Answer:
        """There is no such page, or no more."""
        text = (
            "<!doctype html><title>not found</title><p>There is nothing at this address (any more). "
            '<a href="/">To the list of runs</a></p>\n'
        )
        return cls(body=text.encode(), status=HTTPStatus.NOT_FOUND)

    @classmethod
    def of_text(cls, text: str, status: HTTPStatus) -> Answer:
        """Why there is no page."""
        return cls(body=text.encode(errors="replace"), type="text/plain; charset=utf-8", status=status)


def _handler_of(gallery: Gallery) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Knows GET and HEAD only; http.server answers 501 to all else."""

        policy = STRICT_POLICY

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            host = host_in(self.headers.get("Host", ""))
            refusal = gallery.refusal(host, self.headers.get("Sec-Fetch-Site"))
            if refusal is not None:
                self._send(Answer.of_text(refusal, HTTPStatus.FORBIDDEN), host)
                return
            try:
                answer = gallery.answer(self.path)
            except (Da3StreamError, OSError) as error:
                answer = Answer.of_text(str(error), HTTPStatus.INTERNAL_SERVER_ERROR)
            self._send(answer, host)

        def _send(self, answer: Answer, host: str) -> None:
            self.policy = answer.policy
            self.send_response(answer.status)
            if answer.viewer_port is not None:
                self.send_header("Location", f"http://{host}:{answer.viewer_port}")
            self.send_header("Content-Type", answer.type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Cache-Control", "no-store")
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody waits for it any more
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

        def end_headers(self) -> None:
            """Of all answers, those of http.server too."""
            self.send_header("Content-Security-Policy", self.policy)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            super().end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the terminal is the user's."""

    return Handler
