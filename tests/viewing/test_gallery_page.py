"""The list of runs and what it serves, in a real browser. The reports in it may be a stranger's."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from da3stream.viewing.gallery_server import Gallery
from tests.browser import collect_console_errors
from tests.viewing.test_gallery import FakeViewer
from tests.viewing.test_gallery import gallery as gallery
from tests.viewing.test_gallery import opened as opened

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


ATTACKS = {
    "script": "<script>document.title = 'script'</script>",
    "svg": """<svg onload="document.title = 'svg'"></svg>""",
    "error": """<img src="x" onerror="document.title = 'error'">""",
    "srcdoc": """<iframe srcdoc="<script>parent.document.title = 'srcdoc'</script>"></iframe>""",
    "link": """<a href="javascript:void(document.title = 'link')">go</a>""",
    "opening": "<script>fetch('/open/street', {mode: 'no-cors'})</script>",
    "fetch": "<script>fetch('ELSEWHERE/fetch', {mode: 'no-cors'})</script>",
    "image": '<img src="ELSEWHERE/image">',
    "style": '<link rel="stylesheet" href="ELSEWHERE/style">',
    "background": '<div style="background: url(ELSEWHERE/background)">x</div>',
    "frame": '<iframe src="ELSEWHERE/frame"></iframe>',
    "object": '<object data="ELSEWHERE/object"></object>',
    "refresh": '<meta http-equiv="refresh" content="0; url=ELSEWHERE/refresh">',
    "form": '<form action="ELSEWHERE/form"><button>send</button></form>',
}
"""Each changes the title to its name, asks another server for it, or opens a viewer."""


def hostile_page(site: str, attacks: Iterable[str]) -> str:
    """A report with these attacks."""
    body = "".join(ATTACKS[name] for name in attacks).replace("ELSEWHERE", site)
    return f"<!doctype html><title>mine</title><body>{body}<p>the end</p>"


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
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def visit(page: Page, url: str) -> None:
    """Look at a hostile page to its end, and use what it offers."""
    page.goto(url)
    page.get_by_text("the end").wait_for()
    for offer in (page.get_by_role("button", name="send"), page.get_by_text("go", exact=True)):
        if offer.count():
            offer.click(no_wait_after=True)


def test_a_strangers_report_runs_no_script_and_asks_nobody(
    gallery: Gallery,
    folder: Path,
    page: Page,
    elsewhere: tuple[str, list[str]],
    opened: list[FakeViewer],
) -> None:
    site, asked = elsewhere
    (folder / "street" / "report.html").write_text(hostile_page(site, ATTACKS))
    visit(page, address(gallery, "report/street"))
    page.wait_for_timeout(500)
    assert page.title() == "mine"
    assert page.url == address(gallery, "report/street")
    assert asked == []
    assert opened == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_this_attack_works_where_nothing_keeps_it_off(
    attack: str,
    gallery: Gallery,
    folder: Path,
    page: Page,
    elsewhere: tuple[str, list[str]],
    opened: list[FakeViewer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the test above would hold for one that does nothing."""
    site, asked = elsewhere
    monkeypatch.setattr("da3stream.viewing.gallery_server.REPORT_POLICY", "")
    (folder / "street" / "report.html").write_text(hostile_page(site, [attack]))
    visit(page, address(gallery, "report/street"))

    def has_worked() -> bool:
        is_asked = any(path.rstrip("?") == f"/{attack}" for path in asked)
        return page.title() == attack or is_asked or (attack == "opening" and opened != [])

    for _ in range(500):
        if has_worked():
            break
        page.wait_for_timeout(20)
    assert has_worked()


def test_a_picture_that_cannot_be_read_says_so_in_its_card(
    gallery: Gallery, folder: Path, page: Page
) -> None:
    shutil.copytree(folder / "street", folder / "torn")
    for file in (folder / "torn" / "frames").iterdir():
        file.write_bytes(b"torn")
    errors = collect_console_errors(page)
    page.goto(address(gallery))
    page.wait_for_load_state("networkidle")
    widths = "images => images.map(image => image.complete ? image.naturalWidth : 0)"
    assert all(page.locator("article img").evaluate_all(widths))
    boxes = [image.bounding_box() for image in page.locator("article img").all()]
    assert len({(box["width"], box["height"]) for box in boxes if box is not None}) == 1
    assert len(boxes) == 2
    assert errors == []


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
