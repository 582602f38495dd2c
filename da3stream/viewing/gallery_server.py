"""The gallery's web server: answers requests for the list, its pictures and reports, and opens viewers."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from da3stream.errors import Da3StreamError, StoreError
from da3stream.viewing.gallery import ListedRun, find_runs, gallery_page, thumbnail

MAX_OPEN = 4
"""Viewers that are open at a time; the one opened longest ago makes room for the next."""
_LOCAL = ("127.0.0.1", "localhost")


class OpenViewer(Protocol):
    """A viewer that listens on a port."""

    @property
    def port(self) -> int: ...
    def close(self) -> None: ...


class Gallery:
    """Serves a folder of runs.

    Args:
        folder: where the runs are.
        host: address to listen on.
        port: of the list; 0: any that is free.
        open_viewer: shows a run; called again for the same run only after its viewer was closed.

    Raises:
        StoreError: there is no run in the folder.
        OSError: the port is taken.
    """

    def __init__(self, folder: Path, host: str, port: int, open_viewer: Callable[[Path], OpenViewer]) -> None:
        self._folder, self._host, self._open_viewer = folder, host, open_viewer
        self._runs: list[ListedRun] = []
        self._open: OrderedDict[Path, OpenViewer] = OrderedDict()
        self._lock = threading.Lock()
        self._list()
        if not self._runs:
            raise StoreError(
                f"{folder} holds no run", expected="a run directory, or a folder with some in it"
            )
        self._server = ThreadingHTTPServer((host, port), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="gallery")

    @property
    def port(self) -> int:
        """On which the list is."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer; returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Close the list and all viewers."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for viewer in self._open.values():
            viewer.close()

    def answer(self, path: str) -> Answer:
        """What belongs to a path of this page."""
        if path == "/":
            self._list()
            return Answer.of_page(gallery_page(self._folder.resolve().name, self._runs))
        asked = re.fullmatch(r"/(open|thumbnail|report)/(\d{1,6})", path)
        if asked is None or int(asked[2]) >= len(self._runs):
            return Answer(status=HTTPStatus.NOT_FOUND)
        run = self._runs[int(asked[2])]
        if asked[1] == "open":
            return Answer(status=HTTPStatus.SEE_OTHER, viewer_port=self._viewer_of(run.root).port)
        if asked[1] == "thumbnail":
            jpeg = thumbnail(run.root)
            return (
                Answer(status=HTTPStatus.NOT_FOUND) if jpeg is None else Answer(body=jpeg, type="image/jpeg")
            )
        report = run.root / "report.html"
        return Answer(body=report.read_bytes()) if report.is_file() else Answer(status=HTTPStatus.NOT_FOUND)

    def is_welcome(self, host: str) -> bool:
        """Whether a request may call this server so: a page elsewhere must not reach it by its own name."""
        return self._host not in _LOCAL or host in _LOCAL

    def _list(self) -> None:
        self._runs = find_runs(self._folder)

    def _viewer_of(self, root: Path) -> OpenViewer:
        with self._lock:
            if root not in self._open:
                while len(self._open) >= MAX_OPEN:
                    self._open.popitem(last=False)[1].close()
                self._open[root] = self._open_viewer(root)
            return self._open[root]


class Answer:
    """What a request gets."""

    def __init__(
        self,
        *,
        body: bytes = b"",
        type: str = "text/html; charset=utf-8",
        status: HTTPStatus = HTTPStatus.OK,
        viewer_port: int | None = None,
    ) -> None:
        self.body, self.type, self.status, self.viewer_port = body, type, status, viewer_port

    @classmethod
    def of_page(cls, text: str) -> Answer:
        """A page."""
        return cls(body=text.encode())


def _handler_of(gallery: Gallery) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Knows GET only; http.server answers 501 to all else."""

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            if not gallery.is_welcome(host):
                self._send(Answer(status=HTTPStatus.FORBIDDEN), host)
                return
            try:
                answer = gallery.answer(self.path)
            except Da3StreamError as error:
                answer = Answer(
                    body=str(error).encode(),
                    type="text/plain; charset=utf-8",
                    status=HTTPStatus.INTERNAL_SERVER_ERROR,
                )
            self._send(answer, host)

        def _send(self, answer: Answer, host: str) -> None:
            self.send_response(answer.status)
            if answer.viewer_port is not None:
                self.send_header("Location", f"http://{host}:{answer.viewer_port}")
            self.send_header("Content-Type", answer.type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the terminal is the user's."""

    return Handler
