"""The page in a real browser, from the disk and with the network off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import collect_console_errors
from tests.report.test_html import HOSTILE
from tests.report.test_writing import SECTIONS, page_again

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAME = "<img src=x onerror=alert(1)>" + HOSTILE.replace("/", "") + 150 * "x" + ".mp4"

pytestmark = pytest.mark.slow


class Opened:
    """A page that was opened, and what it did."""

    def __init__(self, browser: Browser, file: Path, width: int = 1100, scheme: Any = "light") -> None:
        viewport: Any = {"width": width, "height": 900}
        self._context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True)
        self.page: Page = self._context.new_page()
        self.errors = collect_console_errors(self.page)
        self.requests: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()


@pytest.mark.parametrize("width", [1100, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_section_is_seen_and_nothing_is_asked_of_the_network(
    chromium: Browser, run_directory: Path, width: int, scheme: str
) -> None:
    file = run_directory / "report.html"
    with Opened(chromium, file, width, scheme) as opened:
        page = opened.page
        for name in SECTIONS:
            heading = page.locator(f"section#{name} h2")
            assert heading.is_visible(), name
            box = page.locator(f"section#{name}").bounding_box()
            assert box is not None
            assert box["height"] > 50, name
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width, name
        assert page.evaluate("document.documentElement.scrollWidth") == width
        broken = "[...document.images].filter(i => !i.complete || i.naturalWidth < 20).length"
        assert page.evaluate(broken) == 0
        assert page.evaluate("document.images.length") > 40
        assert {url for url in opened.requests if not url.startswith("data:")} == {file.as_uri()}
        assert opened.errors == []


def test_dark_and_light_follow_the_reader_and_text_can_be_read(
    chromium: Browser, run_directory: Path
) -> None:
    contrast = {}
    for scheme in ("light", "dark"):
        with Opened(chromium, run_directory / "report.html", scheme=scheme) as opened:
            contrast[scheme] = [
                brightness(opened.page.evaluate(f"getComputedStyle(document.body).{what}"))
                for what in ("backgroundColor", "color")
            ]
    assert contrast["light"][0] > contrast["light"][1] + 150
    assert contrast["dark"][1] > contrast["dark"][0] + 150


def brightness(colour: str) -> float:
    red, green, blue = (float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    return (red + green + blue) / 3


def test_the_map_shows_the_path_and_names_frames(chromium: Browser, run_directory: Path) -> None:
    with Opened(chromium, run_directory / "report.html") as opened:
        page = opened.page
        path = page.locator("svg.map")
        box = path.bounding_box()
        assert box is not None
        assert box["width"] > 600
        assert page.locator("svg.map polyline.after").count() > 10
        assert page.locator("svg.map polyline.before").count() == 1
        assert page.locator("svg.map line.loop").count() >= 1
        spot = page.locator("svg.map circle.spot").nth(20)
        middle = spot.bounding_box()
        assert middle is not None
        top = page.evaluate(
            "([x, y]) => document.elementFromPoint(x, y - scrollY)?.querySelector('title')?.textContent",
            [middle["x"] + middle["width"] / 2, middle["y"] + middle["height"] / 2],
        )
        assert top is None or top.startswith("frame")
        assert spot.locator("title").text_content().startswith("frame 20, ")


def test_options_open_when_they_are_asked_for(chromium: Browser, run_directory: Path) -> None:
    with Opened(chromium, run_directory / "report.html") as opened:
        option = opened.page.get_by_text("confidence_percentile", exact=True)
        assert not option.is_visible()
        opened.page.get_by_text("All options").click()
        assert option.is_visible()


def test_hostile_and_long_names_do_nothing(chromium: Browser, run_directory: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "input": f"/a/{NAME}",
        "warnings": [f"<img src=x onerror=alert(1)>{HOSTILE}"],
    }
    file = tmp_path / "hostile.html"
    file.write_text(page_again(run_directory, **changes))
    with Opened(chromium, file, width=390) as opened:
        dialogs: list[str] = []
        opened.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        opened.page.reload()
        assert opened.page.locator("h1").text_content() == NAME
        assert opened.page.evaluate("document.documentElement.scrollWidth") == 390
        assert dialogs == []
        assert opened.errors == []
        assert all(url.startswith(("file:", "data:")) for url in opened.requests)


def test_it_prints(chromium: Browser, run_directory: Path) -> None:
    with Opened(chromium, run_directory / "report.html", scheme="dark") as opened:
        pdf = opened.page.pdf(format="A4")
        assert pdf.startswith(b"%PDF")
        assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 12
        opened.page.emulate_media(media="print", color_scheme="light")
        assert opened.page.locator("section#path svg.map").is_visible()
