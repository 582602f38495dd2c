"""The viewer's page in a real browser."""

from __future__ import annotations

import io
import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from da3stream.geometry.rigid3 import rotation_from_quaternion_wxyz
from da3stream.viewing import pace as pace_module
from da3stream.viewing.gallery_server import Gallery
from da3stream.viewing.playback import view_from_above
from da3stream.viewing.viewer import Viewer, open_viewer
from tests.browser import collect_console_errors
from tests.viewing.test_following import Writer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

pytestmark = pytest.mark.slow

VIEWPORT: ViewportSize = {"width": 900, "height": 560}
PANEL_LEFT_PX = 560


@pytest.fixture
def viewer(finished_demo: Path) -> Iterator[Viewer]:
    """Shows the demo's own run."""
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    shown = open_viewer(finished_demo / "run", "127.0.0.1", 0)
    yield shown
    shown.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport=VIEWPORT)
    yield context.new_page()
    context.close()


def wait_for(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """AssertionError if it does not become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def canvas(page: Page) -> np.ndarray:
    """(H, W, 3) the part of the picture beside the panel and below the notification of software rendering."""
    picture = np.frombuffer(io.BytesIO(page.screenshot()).getvalue(), np.uint8)
    return np.asarray(cv2.imdecode(picture, cv2.IMREAD_COLOR))[190:, :PANEL_LEFT_PX]


def coloured(page: Page) -> float:
    """Share of the canvas that is not its white background."""
    return float((canvas(page).min(axis=2) < 235).mean())


def is_all_shown(viewer: Viewer) -> bool:
    return viewer.state is not None and viewer.state.before is not None


def open_page(page: Page, viewer: Viewer) -> None:
    page.goto(f"http://127.0.0.1:{viewer.port}")
    wait_for(lambda: is_all_shown(viewer))
    page.get_by_text("View from above").wait_for()
    wait_for(lambda: coloured(page) > 0.01)


def number_beside(page: Page, label: str) -> float:
    """What a slider's field says."""
    return float(field(page, label).input_value())


def field(page: Page, label: str):  # type: ignore[no-untyped-def]
    row = page.get_by_text(label, exact=True).locator("xpath=ancestor::*[.//input][1]")
    return row.locator("input").last


def set_number(page: Page, label: str, value: float) -> None:
    entry = field(page, label)
    entry.fill(str(value))
    entry.press("Enter")


def test_the_page_loads_without_errors_and_asks_nobody_else(viewer: Viewer, page: Page) -> None:
    errors, asked = collect_console_errors(page), []
    page.on("request", lambda request: asked.append(request.url))
    open_page(page, viewer)
    colours = canvas(page).reshape(-1, 3)
    assert len(np.unique(colours // 16, axis=0)) > 50
    assert errors == []
    outside = [
        url for url in asked if not url.startswith((f"http://127.0.0.1:{viewer.port}", "data:", "blob:"))
    ]
    assert outside == []


def test_play_moves_the_timeline_and_the_user_along(viewer: Viewer, page: Page) -> None:
    open_page(page, viewer)
    before = canvas(page)
    page.get_by_label("Fly along the path").check()
    page.get_by_text("Play", exact=True).click()
    wait_for(lambda: number_beside(page, "Frame") > 15)
    page.get_by_text("Pause", exact=True).click()
    page.get_by_text("Play", exact=True).wait_for()
    assert np.abs(canvas(page).astype(int) - before).mean() > 3
    frame = number_beside(page, "Frame")
    time.sleep(0.6)
    assert number_beside(page, "Frame") == frame


def test_sliders_act(viewer: Viewer, page: Page) -> None:
    open_page(page, viewer)
    page.get_by_text("View from above").click()
    time.sleep(1.0)
    share = coloured(page)
    set_number(page, "Point size", 4)
    wait_for(lambda: coloured(page) > 1.15 * share)
    share = coloured(page)
    set_number(page, "Leave out, %", 95)
    wait_for(lambda: coloured(page) < 0.8 * share)


def test_the_points_become_as_many_as_the_browser_draws(
    viewer: Viewer, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is made longer than any real one: points become fewer, though the run has far more."""
    assert viewer._budget is None
    open_page(page, viewer)
    wait_for(lambda: any(browser.seconds for browser in viewer._pace._browsers.values()))  # it has answered
    assert viewer.scene is not None
    points = viewer.scene.points
    assert points > 1000
    monkeypatch.setattr(pace_module, "FEWEST", 1)
    monkeypatch.setattr(pace_module, "seconds_to_draw", lambda client: 0.05 + 3e-4 * viewer.scene.points)
    page.reload()  # somebody who was not measured
    wait_for(lambda: viewer.scene is not None and 300 < viewer.scene.points <= 1000 / 0.6)


def test_before_the_optimisation_the_map_lies_elsewhere(viewer: Viewer, page: Page) -> None:
    open_page(page, viewer)
    assert viewer.state is not None
    after = viewer.state.centres.copy()
    page.get_by_label("Before optimisation").check()
    wait_for(lambda: viewer.state is not None and not np.allclose(viewer.state.centres, after))
    page.get_by_label("Before optimisation").uncheck()
    wait_for(lambda: viewer.state is not None and np.allclose(viewer.state.centres, after))


def test_the_report_can_be_had_from_the_page(viewer: Viewer, page: Page, finished_demo: Path) -> None:
    open_page(page, viewer)
    page.get_by_role("button", name="Report").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="report.html").click()
    assert Path(download.value.path()).read_bytes() == (finished_demo / "run" / "report.html").read_bytes()


def test_the_page_grows_with_the_run(viewed: Path, tmp_path: Path, page: Page) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    writer = Writer(viewed, tmp_path / "growing")
    viewer = open_viewer(writer.folder, "127.0.0.1", 0, follow=True)
    try:
        page.goto(f"http://127.0.0.1:{viewer.port}")
        page.get_by_text("Waiting for the first chunk").wait_for()
        writer.write(10)
        page.get_by_text("the run goes on").wait_for()
        wait_for(lambda: coloured(page) > 0.005)
        assert viewer.state is not None
        assert len(viewer.state) < 70
        writer.finish()
        page.get_by_text("The run has finished").wait_for()
        assert len(viewer.state) == 70
    finally:
        viewer.close()


def test_a_click_on_a_frustum_goes_to_its_frame(viewer: Viewer, page: Page) -> None:
    open_page(page, viewer)
    assert viewer.state is not None
    assert viewer.scene is not None
    set_number(page, "Size", 4)
    (client,) = viewer.clients
    told: list[np.ndarray] = []  # by the browser: only then does it look from there
    client.camera.on_update(lambda camera: told.append(np.array([camera.position, camera.look_at])))
    above = view_from_above(viewer.state.centres, viewer._depth, viewer._up)
    page.get_by_text("View from above").click()
    wait_for(lambda: bool(told) and np.allclose(told[-1], [above.position, above.look_at], atol=1e-3))
    height, width = VIEWPORT["height"], VIEWPORT["width"]  # a slow browser draws, and tells, fewer pixels
    turn = rotation_from_quaternion_wxyz(client.camera.wxyz)
    in_cam = (viewer.state.centres - client.camera.position) @ turn
    focal = height / 2 / np.tan(client.camera.fov / 2)
    pixels = in_cam[:, :2] / in_cam[:, 2:] * focal + np.array([width, height]) / 2
    inside = ((pixels > [20, 200]) & (pixels < [PANEL_LEFT_PX, height - 20])).all(axis=1)
    shown = [frame for frame in viewer.scene.frusta if inside[frame] and frame > 8]
    assert shown
    frame = shown[len(shown) // 2]
    for offset in itertools.product((0, -3, 3, -6, 6), repeat=2):  # a frustum is lines around its tip
        page.mouse.click(*(pixels[frame] + offset))
        page.wait_for_timeout(500)
        if number_beside(page, "Frame") != 0:
            break
    near = np.linalg.norm(pixels - pixels[frame], axis=1) < 30
    assert near[int(number_beside(page, "Frame"))]


def test_the_gallery_lists_runs_and_opens_them(viewed: Path, tmp_path: Path, page: Page) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    for name in ("first", "second"):
        shutil.copytree(viewed, tmp_path / name)
    gallery = Gallery(tmp_path, "127.0.0.1", 0, lambda root, port: open_viewer(root, "127.0.0.1", port))
    gallery.start()
    try:
        errors = collect_console_errors(page)
        page.goto(f"http://127.0.0.1:{gallery.port}")
        assert page.locator("article").count() == 2
        wait_for(lambda: page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)"))
        page.get_by_text("second", exact=True).click()
        page.get_by_text("View from above").wait_for()
        wait_for(lambda: coloured(page) > 0.01)
        assert errors == []
    finally:
        gallery.close()
