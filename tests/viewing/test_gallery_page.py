"""The list of runs and what it serves, in a real browser. The reports in it may be a stranger's."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from da3stream.viewing.gallery_server import Gallery
from tests.browser import collect_console_errors
from tests.viewing.test_gallery import FakeViewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1000, "height": 700})
    yield context.new_page()
    context.close()


@pytest.fixture
def folder(viewed: Path, tmp_path: Path) -> Path:
    shutil.copytree(viewed, tmp_path / "street")
    return tmp_path


@pytest.fixture
def gallery(folder: Path) -> Iterator[Gallery]:
    served = Gallery(folder, "127.0.0.1", 0, FakeViewer)
    served.start()
    yield served
    served.close()


def address(gallery: Gallery, path: str = "") -> str:
    return f"http://127.0.0.1:{gallery.port}/{path}"


def picture(page: Page) -> np.ndarray:
    """(H, W, 3) of the whole page."""
    png = np.frombuffer(page.screenshot(full_page=True), np.uint8)
    return np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR))


def test_a_report_looks_in_the_list_as_it_does_from_the_disk(
    gallery: Gallery, folder: Path, page: Page
) -> None:
    errors = collect_console_errors(page)
    page.goto((folder / "street" / "report.html").as_uri())
    alone = picture(page)
    page.goto(address(gallery))
    page.get_by_role("link", name="report").click()
    page.wait_for_url("**/report/street")
    assert np.array_equal(picture(page), alone)
    page.reload()
    assert np.array_equal(picture(page), alone)
    page.locator("a[href^='#']").first.click()
    page.wait_for_url("**/report/street#*")
    assert errors == []


HOSTILE = """<!doctype html><title>mine</title><body onload="document.title = 'body'">
<script>document.title = 'script'; fetch('/open/street')</script>
<svg onload="document.title = 'svg'"></svg>
<img src="x" onerror="document.title = 'image'"><img src="ELSEWHERE/image">
<link rel="stylesheet" href="ELSEWHERE/style"><div style="background: url(ELSEWHERE/background)">x</div>
<iframe src="ELSEWHERE/frame"></iframe>
<iframe srcdoc="<script>parent.document.title = 'frame'</script>"></iframe>
<object data="ELSEWHERE/object"></object><meta http-equiv="refresh" content="0; url=ELSEWHERE/refresh">
<form action="ELSEWHERE/form"><button>send</button></form><a href="javascript:document.title = 'link'">go</a>
<p>the end</p>
"""


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Another server of this machine, and what it is asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def visit(page: Page, url: str) -> str:
    """The title of a hostile page when all it tries has been tried."""
    page.goto(url)
    page.get_by_text("the end").wait_for()
    page.get_by_role("button", name="send").click(no_wait_after=True)
    page.get_by_text("go", exact=True).click(no_wait_after=True)
    page.wait_for_timeout(500)
    return page.title()


def test_a_strangers_report_runs_no_script_and_asks_nobody(
    gallery: Gallery, folder: Path, page: Page, elsewhere: tuple[str, list[str]]
) -> None:
    site, asked = elsewhere
    report = folder / "street" / "report.html"
    report.write_text(HOSTILE.replace("ELSEWHERE", site))
    assert visit(page, address(gallery, "report/street")) == "mine"
    assert page.url == address(gallery, "report/street")
    assert asked == []


def test_these_attacks_work_where_nothing_keeps_them_off(
    gallery: Gallery,
    folder: Path,
    page: Page,
    elsewhere: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the test above would hold for a browser that shows nothing."""
    site, asked = elsewhere
    monkeypatch.setattr("da3stream.viewing.gallery_server.REPORT_POLICY", "upgrade-insecure-requests")
    (folder / "street" / "report.html").write_text(HOSTILE.replace("ELSEWHERE", site))
    page.goto(address(gallery, "report/street"))
    page.wait_for_timeout(1000)
    assert page.title() != "mine"
    assert asked


def test_runs_without_pictures_have_a_calm_card(gallery: Gallery, folder: Path, page: Page) -> None:
    shutil.copytree(folder / "street", folder / "bare")
    shutil.rmtree(folder / "bare" / "frames")
    errors, failed = collect_console_errors(page), []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    page.goto(address(gallery))
    page.wait_for_load_state("networkidle")
    assert page.locator("article").count() == 2
    empty, image = (page.locator(name).bounding_box() for name in ("article .none", "article img"))
    assert empty is not None
    assert image is not None
    assert (empty["width"], empty["height"]) == (image["width"], image["height"])
    assert page.get_by_text("no picture").is_visible()
    assert errors == []
    assert failed == []
