"""The list of the runs in a folder, and its web server."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

from da3stream.errors import ConfigError, StoreError
from da3stream.store import read_manifest
from da3stream.viewing.gallery import find_runs, gallery_page, thumbnail
from da3stream.viewing.gallery_server import MAX_OPEN, Answer, Gallery
from da3stream.viewing.library import free_port


class FakeViewer:
    """Listens as a viewer does, on any free port instead of 0."""

    def __init__(self, root: Path, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.root, self.port = root, int(self._listener.getsockname()[1])
        self.is_closed = self.is_stopped = False

    def close(self) -> None:
        self._listener.close()
        self.is_closed = True


@pytest.fixture
def folder(viewed: Path, tmp_path: Path) -> Path:
    """Two runs, one of them deeper, with a name that HTML could stumble over, and other folders."""
    shutil.copytree(viewed, tmp_path / "a <b>&c")
    (tmp_path / "a <b>&c" / "report.html").unlink()
    shutil.copytree(viewed, tmp_path / "demo" / "run")
    (tmp_path / "demo" / "run" / "report.html").write_text("<p>the report</p>")
    (tmp_path / "photos").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text(json.dumps({"format": "of another program"}))
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path


@pytest.fixture
def opened() -> list[FakeViewer]:
    return []


@pytest.fixture
def gallery(folder: Path, opened: list[FakeViewer]) -> Iterator[Gallery]:
    served = Gallery(folder, "127.0.0.1", 0, opener(opened))
    served.start()
    yield served
    served.close()


def opener(opened: list[FakeViewer]) -> Callable[[Path, int], FakeViewer]:
    def open_viewer(root: Path, port: int) -> FakeViewer:
        opened.append(FakeViewer(root, port))
        return opened[-1]

    return open_viewer


def ask(
    gallery: Gallery, path: str, method: str = "GET", host: str | None = None, site: str | None = None
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", gallery.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{gallery.port}")
    if site is not None:
        connection.putheader("Sec-Fetch-Site", site)
    connection.endheaders()
    return connection.getresponse()


def test_runs_are_found_and_nothing_else(folder: Path) -> None:
    runs = find_runs(folder)
    assert {run.name for run in runs} == {"a <b>&c", "demo/run"}
    for run in runs:
        assert (run.model, run.frames, run.is_finished, run.is_viewable) == ("simulated", 70, True, True)
        files = [path for path in run.root.rglob("*") if path.is_file()]
        assert run.disk_bytes == sum(path.stat().st_blocks * 512 for path in files)
        assert run.disk_bytes >= sum(path.stat().st_size for path in files) / 2


def test_names_are_no_html(folder: Path) -> None:
    page = gallery_page("x", find_runs(folder))
    assert "a &lt;b&gt;&amp;c" in page
    assert "<b>" not in page


def test_the_list_has_a_picture_and_a_report_of_each_run(gallery: Gallery) -> None:
    page = ask(gallery, "/").read().decode()
    assert page.count("<article>") == 2
    assert page.count("report/") == 1
    assert ask(gallery, "/report/demo/run").read() == b"<p>the report</p>"
    assert 'src="thumbnail/a%20%3Cb%3E%26c"' in page
    picture = ask(gallery, "/thumbnail/a%20%3Cb%3E%26c").read()
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.std() > 10


def test_opening_a_run_goes_to_its_viewer_and_opens_it_once(
    gallery: Gallery, opened: list[FakeViewer]
) -> None:
    for host in ("127.0.0.1", "localhost"):
        answer = ask(gallery, "/open/demo/run", host=f"{host}:{gallery.port}")
        assert (answer.status, answer.getheader("Location")) == (303, f"http://{host}:{opened[0].port}")
    assert len(opened) == 1


def test_a_link_leads_to_its_run_though_the_list_has_changed(
    gallery: Gallery, folder: Path, opened: list[FakeViewer]
) -> None:
    link = ask(gallery, "/").read().decode().split('href="open/')[1].split('"')[0]
    shown = folder / unquote(link)
    shutil.copytree(shown, folder / "newest")
    (folder / "newest" / "run.json").touch()
    assert ask(gallery, "/").status == 200
    assert ask(gallery, f"/open/{link}").status == 303
    assert [viewer.root for viewer in opened] == [shown]


def test_viewers_open_at_the_free_ports_after_the_lists(
    viewed: Path, tmp_path: Path, opened: list[FakeViewer]
) -> None:
    """A port that another program has, or a viewer that could not be opened, moves nothing."""
    for number in range(MAX_OPEN + 2):
        shutil.copytree(viewed, tmp_path / f"run{number}")

    def open_viewer(root: Path, port: int) -> FakeViewer:
        if root.name == "run5":
            raise StoreError("it cannot be shown")
        return opener(opened)(root, port)

    gallery = Gallery(tmp_path, "127.0.0.1", 0, open_viewer)
    after = range(gallery.port + 1, gallery.port + 1 + MAX_OPEN)
    free = [port for port in after if is_free(port)]
    gallery.start()
    assert len(free) > 1
    for _ in range(MAX_OPEN):
        assert ask(gallery, "/open/run5").status == 500
    with socket.create_server(("127.0.0.1", free[0])):
        for number in range(2):
            assert ask(gallery, f"/open/run{number}").status == 303
    assert opened[0].port == free[1]
    for number in range(2, MAX_OPEN + 1):
        assert ask(gallery, f"/open/run{number}").status == 303
    assert opened[0].is_closed
    ports = [viewer.port for viewer in opened[1:]]
    assert len(set(ports)) == MAX_OPEN
    assert set(free) - set(ports) <= {free[1]}  # the first one's was given up only for the last one
    gallery.close()


def is_free(port: int) -> bool:
    try:
        return free_port("127.0.0.1", port) == port
    except ConfigError:
        return False


def test_a_list_at_the_last_port_opens_viewers_elsewhere(
    gallery: Gallery, opened: list[FakeViewer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gallery, "port", 65535)
    assert gallery.answer("/open/demo/run").viewer_port == opened[0].port


def test_a_viewer_that_has_stopped_is_opened_anew(gallery: Gallery, opened: list[FakeViewer]) -> None:
    assert ask(gallery, "/open/demo/run").status == 303
    opened[0].is_stopped = True
    assert ask(gallery, "/open/demo/run").getheader("Location") == f"http://127.0.0.1:{opened[1].port}"
    assert opened[0].is_closed
    assert not opened[1].is_closed


def test_only_so_many_viewers_are_open(viewed: Path, tmp_path: Path, opened: list[FakeViewer]) -> None:
    for number in range(MAX_OPEN + 1):
        shutil.copytree(viewed, tmp_path / f"run{number}")

    gallery = Gallery(tmp_path, "127.0.0.1", 0, opener(opened))
    gallery.start()
    for number in range(MAX_OPEN + 1):
        assert ask(gallery, f"/open/run{number}").status == 303
    assert [viewer.is_closed for viewer in opened] == [True] + MAX_OPEN * [False]
    gallery.close()
    assert all(viewer.is_closed for viewer in opened)


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt",
        "/../secret.txt",
        "/report/../secret.txt",
        "/report/demo/run/../../secret.txt",
        "/report/demo%2Frun%2F..%2Frun",
        "/open/",
        "/open/9",
        "/open/photos",
        "/open/demo/run/x",
        "/thumbnail/%00",
        "/thumbnail/%ff",
    ],
)
def test_what_is_not_known_is_not_found(gallery: Gallery, path: str) -> None:
    assert ask(gallery, path).status == 404


def test_other_methods_and_other_names_are_refused(gallery: Gallery, opened: list[FakeViewer]) -> None:
    assert ask(gallery, "/open/demo/run", method="POST").status == 501
    assert ask(gallery, "/open/demo/run", host="rebound.example.com").status == 403
    assert not opened


def test_pages_from_elsewhere_open_nothing(gallery: Gallery, opened: list[FakeViewer]) -> None:
    """`<img src="http://127.0.0.1:8080/open/run">` in any page: its Host does not tell whose page it is."""
    for path in ("/", "/open/demo/run", "/thumbnail/demo/run", "/report/demo/run"):
        assert ask(gallery, path, site="cross-site").status == 403
        assert ask(gallery, path, site="anything new").status == 403
    assert not opened
    for site in ("none", "same-origin", "same-site"):
        assert ask(gallery, "/open/demo/run", site=site).status == 303


def test_a_run_that_goes_away_while_it_is_listed_is_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_lose(root: Path) -> Any:
        manifest = read_manifest(root)
        (root / "run.json").unlink()
        return manifest

    monkeypatch.setattr("da3stream.viewing.gallery.read_manifest", read_and_lose)
    assert find_runs(folder) == []


def test_a_finished_run_is_measured_once_and_again_when_it_has_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {run.name: run.disk_bytes for run in find_runs(folder)}
    measured: list[str] = []

    def measure(root: Path) -> int:
        measured.append(root.name)
        return 7

    monkeypatch.setattr("da3stream.viewing.gallery.folder_bytes", measure)
    assert {run.name: run.disk_bytes for run in find_runs(folder)} == sizes
    manifest = folder / "demo" / "run" / "run.json"
    os.utime(manifest, ns=(0, manifest.stat().st_mtime_ns + 1))
    assert {run.name: run.disk_bytes for run in find_runs(folder)} == {**sizes, "demo/run": 7}
    assert measured == ["run"]


def test_a_file_that_cannot_be_read_is_said(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> Any:
        raise PermissionError(13, "not for you")

    monkeypatch.setattr(gallery, "answer", fail)
    answer = ask(gallery, "/")
    assert (answer.status, b"not for you" in answer.read()) == (500, True)


def test_somebody_who_goes_away_is_no_error(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, sent = [], threading.Event()
    monkeypatch.setattr(gallery, "answer", lambda path: Answer(body=bytes(50_000_000)))
    monkeypatch.setattr(gallery._server, "handle_error", lambda *request: failed.append(request))
    shutdown = gallery._server.shutdown_request
    monkeypatch.setattr(gallery._server, "shutdown_request", lambda asked: (shutdown(asked), sent.set()))
    with socket.create_connection(("127.0.0.1", gallery.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset it
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(100)
    assert sent.wait(20)
    assert failed == []


def test_a_list_that_was_never_served_can_be_closed(folder: Path) -> None:
    gallery = Gallery(folder, "127.0.0.1", 0, FakeViewer)
    closing = threading.Thread(target=gallery.close, daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
    assert is_free(gallery.port)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no run"):
        Gallery(tmp_path, "127.0.0.1", 0, FakeViewer)


def test_a_run_without_images_has_no_thumbnail(tmp_path: Path) -> None:
    assert thumbnail(tmp_path) is None
