"""The list of the runs in a folder, and its web server."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from da3stream.errors import StoreError
from da3stream.viewing.gallery import find_runs, gallery_page, thumbnail
from da3stream.viewing.gallery_server import MAX_OPEN, Gallery


class FakeViewer:
    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port, self.is_closed = root, port, False

    def close(self) -> None:
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
    def open_viewer(root: Path) -> FakeViewer:
        opened.append(FakeViewer(root, 40000 + len(opened)))
        return opened[-1]

    served = Gallery(folder, "127.0.0.1", 0, open_viewer)
    served.start()
    yield served
    served.close()


def ask(
    gallery: Gallery, path: str, method: str = "GET", host: str | None = None
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", gallery.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{gallery.port}")
    connection.endheaders()
    return connection.getresponse()


def test_runs_are_found_and_nothing_else(folder: Path) -> None:
    runs = find_runs(folder)
    assert {run.name for run in runs} == {"a <b>&c", "demo/run"}
    for run in runs:
        assert (run.model, run.frames, run.is_finished, run.is_viewable) == ("simulated", 70, True, True)
        assert run.disk_bytes == sum(path.stat().st_size for path in run.root.rglob("*") if path.is_file())


def test_names_are_no_html(folder: Path) -> None:
    page = gallery_page("x", find_runs(folder))
    assert "a &lt;b&gt;&amp;c" in page
    assert "<b>" not in page


def test_the_list_has_a_picture_and_a_report_of_each_run(gallery: Gallery) -> None:
    page = ask(gallery, "/").read().decode()
    assert page.count("<article>") == 2
    assert page.count("report/") == 1
    number = page.split("report/")[1].split('"')[0]
    assert ask(gallery, f"/report/{number}").read() == b"<p>the report</p>"
    picture = ask(gallery, "/thumbnail/0").read()
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.std() > 10


def test_opening_a_run_goes_to_its_viewer_and_opens_it_once(
    gallery: Gallery, opened: list[FakeViewer]
) -> None:
    for host, expected in (("127.0.0.1", "http://127.0.0.1:40000"), ("localhost", "http://localhost:40000")):
        answer = ask(gallery, "/open/1", host=f"{host}:{gallery.port}")
        assert (answer.status, answer.getheader("Location")) == (303, expected)
    assert len(opened) == 1


def test_only_so_many_viewers_are_open(viewed: Path, tmp_path: Path, opened: list[FakeViewer]) -> None:
    for number in range(MAX_OPEN + 1):
        shutil.copytree(viewed, tmp_path / f"run{number}")

    def open_viewer(root: Path) -> FakeViewer:
        opened.append(FakeViewer(root, 40000 + len(opened)))
        return opened[-1]

    gallery = Gallery(tmp_path, "127.0.0.1", 0, open_viewer)
    gallery.start()
    for number in range(MAX_OPEN + 1):
        assert ask(gallery, f"/open/{number}").status == 303
    assert [viewer.is_closed for viewer in opened] == [True] + MAX_OPEN * [False]
    gallery.close()
    assert all(viewer.is_closed for viewer in opened)


@pytest.mark.parametrize(
    "path",
    ["/secret.txt", "/../secret.txt", "/report/../secret.txt", "/open/9", "/thumbnail/-1", "/open/0/x"],
)
def test_what_is_not_known_is_not_found(gallery: Gallery, path: str) -> None:
    assert ask(gallery, path).status == 404


def test_other_methods_and_other_names_are_refused(gallery: Gallery, opened: list[FakeViewer]) -> None:
    assert ask(gallery, "/open/0", method="POST").status == 501
    assert ask(gallery, "/open/0", host="rebound.example.com").status == 403
    assert not opened


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no run"):
        Gallery(tmp_path, "127.0.0.1", 0, lambda root: FakeViewer(root, 1))


def test_a_run_without_images_has_no_thumbnail(tmp_path: Path) -> None:
    assert thumbnail(tmp_path) is None
