"""A hub on this machine: just enough of its HTTP interface for `huggingface_hub` to fetch a model from it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves the files of one repository and remembers what was asked of it.

    Attributes:
        url: what HF_ENDPOINT must say.
        cut_after: bytes after which the next answers with a body end early, None for never.
        requests: method, path and Range header of each request.
    """

    def __init__(self, repository: str, files: Mapping[str, bytes]) -> None:
        self.repository, self.files = repository, files
        self.cut_after: int | None = None
        self.requests: list[tuple[str, str, str | None]] = []
        self.url = ""

    def info(self) -> bytes:
        siblings = [{"rfilename": name} for name in self.files]
        return json.dumps({"id": self.repository, "sha": COMMIT, "siblings": siblings}).encode()

    def tree(self) -> bytes:
        return json.dumps(
            [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha256(body).hexdigest()}
                for name, body in self.files.items()
            ]
        ).encode()


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve in a thread, on a free port of the loopback interface."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def _answer(self, *, with_body: bool) -> None:
        hub, path = self.hub, self.path.split("?")[0]
        hub.requests.append((self.command, path, self.headers.get("Range")))
        resolved = f"/{hub.repository}/resolve/{COMMIT}/"
        if path.startswith(f"/api/models/{hub.repository}/tree/"):
            self._send(hub.tree(), with_body=with_body)
        elif path.startswith(f"/api/models/{hub.repository}"):
            self._send(hub.info(), with_body=with_body)
        elif path.startswith(resolved) and path.removeprefix(resolved) in hub.files:
            self._send(hub.files[path.removeprefix(resolved)], with_body=with_body, is_file=True)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, body: bytes, *, with_body: bool, is_file: bool = False) -> None:
        start = _range_start(self.headers.get("Range")) if is_file else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if is_file:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            self.send_header("Content-Type", "application/json")
        self.end_headers()
        if with_body:
            stop = None if self.hub.cut_after is None or not is_file else start + self.hub.cut_after
            self.wfile.write(body[start:stop])
            self.close_connection = True


def _range_start(header: str | None) -> int:
    return int(header.removeprefix("bytes=").split("-")[0]) if header else 0
