"""The list of the runs in a folder, and its web server."""

from __future__ import annotations

import html
import http.client
import json
import os
import shlex
import shutil
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from da3stream.errors import ConfigError, StoreError
from da3stream.store import read_manifest
from da3stream.store.files import RunFiles
from da3stream.store.manifest import encode_manifest
from da3stream.viewing.gallery import FoundRuns, State, find_runs, gallery_page, thumbnail
from da3stream.viewing.gallery_server import (
    LIST_POLICY,
    MAX_OPEN,
    REPORT_POLICY,
    STRICT_POLICY,
    Answer,
    Gallery,
)
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
    gallery: Gallery,
    path: str,
    method: str = "GET",
    host: str | None = None,
    site: str | None = None,
    at: str = "127.0.0.1",
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(at, gallery.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{gallery.port}")
    if site is not None:
        connection.putheader("Sec-Fetch-Site", site)
    connection.endheaders()
    return connection.getresponse()


def test_runs_are_found_and_nothing_else(folder: Path) -> None:
    runs = find_runs(folder).runs
    assert {run.name for run in runs} == {"a <b>&c", "demo/run"}
    for run in runs:
        assert (run.model, run.frames, run.state) == ("simulated", 70, State.FINISHED)
        assert run.is_viewable
        assert run.has_pictures
        files = [path for path in run.root.rglob("*") if path.is_file()]
        assert run.disk_bytes == sum(path.stat().st_blocks * 512 for path in files)
        assert run.disk_bytes is not None
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


def quiet_port() -> int:
    """A free port before free ones, below those that connections get meanwhile (from 32768 on Linux)."""
    return next(
        start
        for start in range(21_000, 30_000, 10)
        if all(is_free(port) for port in range(start, start + 1 + MAX_OPEN))
    )


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

    gallery = Gallery(tmp_path, "127.0.0.1", quiet_port(), open_viewer)
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
    assert set(free) - set(ports) == {free[1]}  # tabs may still wait for the first one there
    gallery.close()


def test_the_port_of_a_closed_viewer_is_kept_for_its_run(
    viewed: Path, tmp_path: Path, opened: list[FakeViewer]
) -> None:
    for number in range(MAX_OPEN + 3):
        shutil.copytree(viewed, tmp_path / f"run{number}")
    gallery = Gallery(tmp_path, "127.0.0.1", quiet_port(), opener(opened))
    gallery.start()
    for number in range(MAX_OPEN + 3):
        assert ask(gallery, f"/open/run{number}").status == 303
    ports = [viewer.port for viewer in opened]
    assert len(set(ports)) == MAX_OPEN + 3
    assert opened[0].is_closed
    assert ask(gallery, "/open/run0").getheader("Location") == f"http://127.0.0.1:{ports[0]}"
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
        "/report/a%20%3Cb%3E%26c",
        "/open/",
        "/open/9",
        "/open/photos",
        "/open/demo/run/x",
        "/thumbnail/%00",
        "/thumbnail/%ff",
    ],
)
def test_what_is_not_known_is_not_found(gallery: Gallery, path: str) -> None:
    answer = ask(gallery, path)
    assert answer.status == 404
    assert b'<a href="/">' in answer.read()


def test_the_headers_alone_are_those_of_the_page(gallery: Gallery) -> None:
    for path in ("/", "/thumbnail/demo/run", "/report/demo/run", "/missing"):
        head, page = ask(gallery, path, method="HEAD"), ask(gallery, path)
        assert (head.status, head.read()) == (page.status, b"")
        for name in ("Content-Type", "Content-Length", "Content-Security-Policy"):
            assert head.getheader(name) == page.getheader(name)
    assert ask(gallery, "/", method="HEAD", site="cross-site").status == 403


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
    found = find_runs(folder)
    assert (found.runs, found.unreadable) == ([], [])


def test_a_finished_run_is_measured_once_and_again_when_it_has_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {run.name: run.disk_bytes for run in find_runs(folder).runs}
    measured: list[str] = []

    def measure(root: Path) -> int:
        measured.append(root.name)
        return 7

    monkeypatch.setattr("da3stream.viewing.gallery.folder_bytes", measure)
    assert {run.name: run.disk_bytes for run in find_runs(folder).runs} == sizes
    manifest = folder / "demo" / "run" / "run.json"
    os.utime(manifest, ns=(0, manifest.stat().st_mtime_ns + 1))
    assert {run.name: run.disk_bytes for run in find_runs(folder).runs} == {**sizes, "demo/run": 7}
    assert measured == ["run"]


def test_measuring_many_runs_takes_no_longer_than_a_moment(folder: Path) -> None:
    ticks = iter(range(100))
    found = [find_runs(folder, clock=lambda: 0.2 * next(ticks)) for _ in range(2)]
    sizes = [[run.disk_bytes is not None for run in runs.runs] for runs in found]
    assert sizes == [[True, False], [True, True]]
    assert " MB" in gallery_page("x", find_runs(folder))


def unfinish(root: Path) -> None:
    """As it was before its outputs were written."""
    manifest = read_manifest(root)
    write_manifest(root, **{**manifest, "status": "running", "frames": None, "input": "walk.mp4"})


def write_manifest(root: Path, **manifest: Any) -> None:
    (root / "run.json").write_bytes(encode_manifest(manifest))


def test_unfinished_runs_are_not_measured_and_what_lies_in_runs_is_not_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinish(folder / "demo" / "run")
    scanned: list[Path] = []
    scandir = os.scandir
    monkeypatch.setattr("os.scandir", lambda path: scanned.append(Path(path)) or scandir(path))
    monkeypatch.setattr("da3stream.viewing.gallery.folder_bytes", lambda root: 10**7)
    runs = {run.name: run.disk_bytes for run in find_runs(folder).runs}
    assert runs == {"a <b>&c": 10**7, "demo/run": None}
    inside = [path for path in scanned if path.is_relative_to(folder / "demo" / "run")]
    assert inside == [folder / "demo" / "run" / "frames"]


def test_it_is_told_which_run_is_being_written_and_how_to_go_on_with_another(folder: Path) -> None:
    root = folder / "demo" / "run"
    for path in (root, folder / "a <b>&c"):
        unfinish(path)
    lock = RunFiles(root).lock()
    runs = {run.name: run for run in find_runs(folder).runs}
    assert runs["demo/run"].state is State.BEING_WRITTEN
    assert runs["a <b>&c"].state is State.INTERRUPTED
    assert {run.frames for run in runs.values()} == {70}
    page = gallery_page("x", find_runs(folder))
    assert page.count("70 frames so far") == 2
    command = html.escape(shlex.join(["da3stream", "resume", str(folder / "a <b>&c")]))
    assert f"<code>{command}</code>" in page
    assert page.count("da3stream resume") == 1
    os.close(lock)
    assert {run.state for run in find_runs(folder).runs} == {State.INTERRUPTED}


def test_a_name_is_no_option_and_a_run_without_an_input_is_not_resumed_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    shutil.move(folder / "demo" / "run", folder / "-x")
    manifest = read_manifest(folder / "-x")
    write_manifest(folder / "-x", **{**manifest, "status": "running", "input": "walk.mp4"})
    write_manifest(folder / "a <b>&c", **{**manifest, "status": "running", "input": None})
    page = gallery_page("x", find_runs(Path()))
    assert page.count("interrupted") == 2
    assert page.count("da3stream resume") == 1
    assert "da3stream resume ./-x<" in page


def test_the_command_of_a_card_works_where_the_list_was_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinish(folder / "demo" / "run")
    for here, given in ((folder, "demo"), (folder.parent, folder.name)):
        monkeypatch.chdir(here)
        page = gallery_page("x", find_runs(Path(given)))
        words = shlex.split(page.split("<code>")[1].split("</code>")[0])
        assert words[:2] == ["da3stream", "resume"]
        assert Path(words[2]).resolve() == folder / "demo" / "run"


def test_whether_a_run_is_being_written_may_be_unknown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path) -> bool:
        raise OSError(37, "No locks available")

    unfinish(folder / "demo" / "run")
    monkeypatch.setattr("da3stream.viewing.gallery.is_locked", fail)
    states = {run.name: run.state for run in find_runs(folder).runs}
    assert states == {"demo/run": State.UNFINISHED, "a <b>&c": State.FINISHED}


def test_a_run_with_a_damaged_journal_is_listed(folder: Path) -> None:
    root = folder / "demo" / "run"
    unfinish(root)
    with (root / "journal.jsonl").open("ab") as file:
        file.write(b"damage\n")
    runs = {run.name: run for run in find_runs(folder).runs}
    assert runs["demo/run"].frames is None


@pytest.mark.parametrize(
    "change",
    [{"frames": "<b>"}, {"frames": [1]}, {"frames": float(10**308) * 10}, {"config": []}, {"config": None}],
)
def test_a_strangers_manifest_stops_no_list(folder: Path, change: dict[str, Any]) -> None:
    root = folder / "demo" / "run"
    manifest = {**read_manifest(root), **change}
    checksum = f"{zlib.crc32(json.dumps(manifest, sort_keys=True).encode()):08x}"
    (root / "run.json").write_text(json.dumps({**manifest, "crc32": checksum}))
    found = find_runs(folder)
    assert [run.name for run in found.runs] == ["a <b>&c"]
    assert found.unreadable == ["demo/run"]


def damage(root: Path) -> None:
    for name in ("run.json", "journal.jsonl"):
        (root / name).write_bytes(b"damage\n")


def test_runs_that_cannot_be_read_are_named(gallery: Gallery, folder: Path) -> None:
    page = ask(gallery, "/").read().decode()
    assert "<p>2 runs, the newest first.</p>" in page
    assert "cannot be read" not in page
    shutil.copytree(folder / "demo", folder / "demo2")
    damage(folder / "a <b>&c")
    damage(folder / "demo" / "run")
    page = ask(gallery, "/").read().decode()
    assert "<p>1 run, the newest first.</p>" in page
    assert "<p>2 folders look like runs but cannot be read: a &lt;b&gt;&amp;c, demo/run</p>" in page
    shutil.rmtree(folder / "demo2")
    with pytest.raises(StoreError, match=r"2 folders .* demo/run"):
        Gallery(folder, "127.0.0.1", 0, FakeViewer)


def test_many_runs_that_cannot_be_read_are_counted(gallery: Gallery, folder: Path) -> None:
    for number in range(30):
        (folder / f"broken{number:02}").mkdir()
        damage(folder / f"broken{number:02}")
    page = ask(gallery, "/").read().decode()
    assert "30 folders look like runs but cannot be read: broken00, " in page
    assert "broken19, ...</p>" in page


@pytest.mark.parametrize("name", ["run.json", "journal.jsonl"])
def test_a_fifo_stops_no_list(folder: Path, name: str) -> None:
    root = folder / "demo" / "run"
    damage(root)  # the one is looked for in the other
    (root / name).unlink()
    os.mkfifo(root / name)
    looking = Looking(folder)
    looking.join(20)
    assert looking.found is not None
    assert [run.name for run in looking.found.runs] == ["a <b>&c"]
    assert looking.found.unreadable == ["demo/run"]


class Looking(threading.Thread):
    """Makes a list that may never end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self.found: FoundRuns | None = None
        self.start()

    def run(self) -> None:
        self.found = find_runs(self._folder)


def test_links_in_a_circle_hide_no_run(folder: Path) -> None:
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "again").symlink_to(folder, target_is_directory=True)
    assert {"a <b>&c", "demo/run", "again/demo/run"} <= {run.name for run in find_runs(folder).runs}


def test_a_run_without_images_asks_for_no_picture(gallery: Gallery, folder: Path) -> None:
    shutil.rmtree(folder / "demo" / "run" / "frames")
    page = ask(gallery, "/").read().decode()
    assert page.count("no picture") == 1
    assert page.count("<img") == page.count('src="thumbnail/') == 1
    assert 'src="thumbnail/demo/run"' not in page


@pytest.mark.parametrize("content", [b"no zip", b"", None])
def test_a_picture_that_cannot_be_read_is_one_that_says_so(
    gallery: Gallery, folder: Path, content: bytes | None
) -> None:
    for file in (folder / "demo" / "run" / "frames").iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content is None else content)
    answer = ask(gallery, "/thumbnail/demo/run")
    assert (answer.status, answer.getheader("Content-Type")) == (200, "image/svg+xml")
    picture = ElementTree.fromstring(answer.read())
    assert "cannot be read" in "".join(picture.itertext())


def test_pictures_that_went_away_and_fifos_are_no_pictures(gallery: Gallery, folder: Path) -> None:
    frames = folder / "demo" / "run" / "frames"
    shutil.rmtree(frames)
    frames.mkdir()
    os.mkfifo(frames / "000000.zip")
    assert b"no picture" in ask(gallery, "/thumbnail/demo/run").read()


def test_browsers_are_told_what_an_answer_may_do(gallery: Gallery) -> None:
    for path, policy in (
        ("/", LIST_POLICY),
        ("/report/demo/run", REPORT_POLICY),
        ("/thumbnail/demo/run", STRICT_POLICY),
        ("/open/demo/run", STRICT_POLICY),
        ("/missing", STRICT_POLICY),
    ):
        answer = ask(gallery, path)
        assert answer.headers.get_all("Content-Security-Policy") == [policy]
        assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]
        assert answer.headers.get_all("Referrer-Policy") == ["no-referrer"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert policy.startswith("sandbox;") == (path == "/report/demo/run")


def test_browsers_are_told_so_where_they_are_refused(gallery: Gallery) -> None:
    refused = (ask(gallery, "/", method="POST"), ask(gallery, "/", site="cross-site"))
    assert [answer.status for answer in refused] == [501, 403]
    for answer in refused:
        assert answer.getheader("Content-Security-Policy") == STRICT_POLICY
        assert answer.getheader("X-Content-Type-Options") == "nosniff"


def test_a_report_that_is_a_link_is_not_served(gallery: Gallery, folder: Path) -> None:
    report = folder / "demo" / "run" / "report.html"
    report.unlink()
    report.symlink_to(folder / "secret.txt")
    assert ask(gallery, "/report/demo/run").status == 404
    assert "report/" not in ask(gallery, "/").read().decode()


def test_a_server_for_others_answers_to_its_own_names_only(folder: Path) -> None:
    gallery = Gallery(folder, "0.0.0.0", 0, FakeViewer)
    gallery.start()
    try:
        for host in ("127.0.0.1", "192.168.1.7", "[fe80::1]", "localhost", socket.gethostname()):
            assert ask(gallery, "/", host=f"{host}:{gallery.port}").status == 200
        refused = ask(gallery, "/", host=f"rebound.example.com:{gallery.port}")
        assert (refused.status, b"--host" in refused.read()) == (403, True)
        assert ask(gallery, "/", site="cross-site").status == 403
    finally:
        gallery.close()


@pytest.mark.ipv6
@pytest.mark.parametrize(("host", "also"), [("::1", ["::1"]), ("::", ["::1", "127.0.0.1"])])
def test_it_listens_by_ipv6(folder: Path, host: str, also: list[str]) -> None:
    gallery = Gallery(folder, host, 0, FakeViewer)
    gallery.start()
    try:
        for at in also:
            name = f"[{at}]" if ":" in at else at
            assert ask(gallery, "/", host=f"{name}:{gallery.port}", at=at).status == 200
            answer = ask(gallery, "/open/demo/run", host=f"{name}:{gallery.port}", at=at)
            assert (answer.getheader("Location") or "").startswith(f"http://{name}:")
        assert ask(gallery, "/", host="rebound.example.com", at="::1").status == 403
    finally:
        gallery.close()


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
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(StoreError, match="holds no run"),
    ):
        Gallery(tmp_path, "127.0.0.1", taken.getsockname()[1], FakeViewer)


def test_a_port_that_is_taken_is_refused(folder: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="--port"),
    ):
        Gallery(folder, "127.0.0.1", taken.getsockname()[1], FakeViewer)


def test_a_run_without_images_has_no_thumbnail(tmp_path: Path) -> None:
    assert thumbnail(tmp_path) is None
