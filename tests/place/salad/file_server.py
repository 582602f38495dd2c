"""A server on this machine that has one file, and may break off while it sends it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What it serves and how; changes take effect at the next request."""

    body: bytes
    cut_after: int | None = None
    """Bytes after which an answer breaks off."""
    knows_ranges: bool = True
    says_length: bool = True
    redirects: bool = False
    """Answers /file by sending the client to /moved, as releases do."""
    ranges: list[str | None] = field(default_factory=list)
    """The Range header of each request for the body."""
    url: str = ""


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """Serve in a thread, on a free port of the loopback interface."""
    handler = type("Handler", (_Handler,), {"served": server})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/file"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: FileServer

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        served = self.served
        if served.redirects and self.path == "/file":
            self.send_response(302)
            self.send_header("Location", "/moved")
            self.end_headers()
            return
        asked = self.headers.get("Range")
        served.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and served.knows_ranges else 0
        size = len(served.body)
        if not size or (start and start >= size):
            self.send_response(416 if size else 404)
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if served.says_length:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        stop = None if served.cut_after is None else start + served.cut_after
        self.wfile.write(served.body[start:stop])
        self.close_connection = True
