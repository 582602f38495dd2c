"""A viewer that cannot do all, and what it leaves behind."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from da3stream.errors import ProcessLostError, RunCorruptError, RunIncompleteError
from da3stream.viewing import pace as pace_module
from da3stream.viewing import viewer as viewer_module
from da3stream.viewing.library import free_port
from da3stream.viewing.scene import MapScene
from da3stream.viewing.viewer import Viewer, open_viewer

pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Viewer]]:
    """Opens viewers, and closes them in the end."""
    viewers: list[Viewer] = []

    def open_one(root: Path) -> Viewer:
        viewers.append(open_viewer(root, "127.0.0.1", 0))
        return viewers[-1]

    yield open_one
    for viewer in viewers:
        viewer.close()


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    return fail


def wait_for(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """AssertionError if it does not become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_child_that_is_lost_takes_only_the_view_before(
    viewed: Path, opened: Callable[[Path], Viewer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer_module, "replayed", raising(ProcessLostError("killed")))
    notified: list[str] = []
    monkeypatch.setattr(
        viewer_module.Panel, "notify", lambda self, title, body, colour="red": notified.append(body)
    )
    viewer = opened(viewed)
    wait_for(lambda: bool(notified))
    assert "killed" in notified[0]
    assert viewer.scene is not None
    points = viewer.scene.points
    assert points > 0
    viewer.choose_points(None, 90)
    wait_for(lambda: viewer.scene is not None and 0 < viewer.scene.points < 0.5 * points)
    assert not viewer.is_stopped
    assert viewer._panel._before.disabled


@pytest.fixture
def looked_at(
    viewed: Path, opened: Callable[[Path], Viewer], monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[int, float]], Viewer]:
    """Opens a viewer that clients look at, each with its seconds for a point; they may change."""

    viewers: list[Viewer] = []
    is_open = threading.Event()

    def look(laws: dict[int, float]) -> Viewer:
        def draw(client: MagicMock) -> float:
            assert is_open.wait(20)
            return 0.05 + laws.get(client.client_id, 0.0) * points_of(viewers[0])

        monkeypatch.setattr(pace_module, "FEWEST", 1)
        monkeypatch.setattr(pace_module, "seconds_to_draw", draw)
        clients = {key: MagicMock(client_id=key) for key in range(1, 4)}
        monkeypatch.setattr(Viewer, "clients", property(lambda self: [clients[key] for key in list(laws)]))
        viewers.append(opened(viewed))
        is_open.set()
        return viewers[0]

    return look


def points_of(viewer: Viewer) -> int:
    return 0 if viewer.scene is None else viewer.scene.points


def is_quiet(viewer: Viewer) -> bool:
    """Whether all work at points is done, the view before the optimisation included."""
    is_replayed = viewer.state is not None and viewer.state.before is not None
    return is_replayed and not viewer._is_due


@pytest.mark.slow
def test_points_follow_who_looks(looked_at: Callable[[dict[int, float]], Viewer]) -> None:
    """0.3 s are for points: so many of 3e-4 s are 1000."""
    laws = {1: 3e-4}
    viewer = looked_at(laws)
    wait_for(lambda: is_quiet(viewer) and 300 < points_of(viewer) < 1000 / 0.6)
    laws[2] = 1.5e-3
    wait_for(lambda: 50 < points_of(viewer) < 200 / 0.6)
    del laws[2]
    wait_for(lambda: 300 < points_of(viewer) < 1000 / 0.6)
    laws[1] = laws[3] = 1e-9
    del laws[1]
    wait_for(lambda: points_of(viewer) > 20_000)
    wait_for(lambda: "all there are" in viewer._panel._status.content)


def test_a_number_that_was_chosen_is_kept_whoever_looks(
    looked_at: Callable[[dict[int, float]], Viewer],
) -> None:
    viewer = looked_at({1: 3e-4})
    wait_for(lambda: is_quiet(viewer) and 300 < points_of(viewer) < 1000 / 0.6)
    viewer.choose_points(5000, 0)
    wait_for(lambda: 2000 < points_of(viewer) <= 5000)
    viewer.choose_points(None, 0)
    wait_for(lambda: 300 < points_of(viewer) < 1000 / 0.6)


def test_what_is_there_is_not_built_again(
    viewed: Path, opened: Callable[[Path], Viewer], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = opened(viewed)
    wait_for(lambda: is_quiet(viewer) and "all there are" in viewer._panel._status.content)
    shown: list[int] = []
    real = MapScene.set_points
    monkeypatch.setattr(
        MapScene,
        "set_points",
        lambda self, frame, *rest: (shown.append(frame), real(self, frame, *rest)),
    )
    viewer.choose_points(4_000_000, viewer._confidence_percentile)
    wait_for(lambda: is_quiet(viewer))
    viewer.choose_points(3_000_000, viewer._confidence_percentile)
    wait_for(lambda: is_quiet(viewer))
    assert shown == []
    viewer.choose_points(3_000_000, 90)
    wait_for(lambda: bool(shown))


def test_a_link_in_place_of_the_report_leads_nowhere(
    viewed: Path, tmp_path: Path, opened: Callable[[Path], Viewer]
) -> None:
    shutil.copytree(viewed, tmp_path / "run")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "run" / "report.html").unlink()
    (tmp_path / "run" / "report.html").symlink_to(tmp_path / "secret")
    viewer = opened(tmp_path / "run")
    with pytest.raises(RunIncompleteError, match="there is no report"):
        viewer.report()


def test_closing_waits_for_no_child_and_complains_of_none(
    viewed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    endless = tmp_path / "python"
    endless.write_text(f"#!/bin/sh\ntouch {tmp_path / 'begun'}\nexec sleep 600\n")
    endless.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(endless))
    viewer = open_viewer(viewed, "127.0.0.1", 0)
    wait_for((tmp_path / "begun").exists)
    viewer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert not viewer.is_stopped


@pytest.mark.parametrize("kind", [RunCorruptError, ValueError])
def test_a_viewer_that_stops_says_so_and_its_reason_is_no_html(
    viewed: Path,
    opened: Callable[[Path], Viewer],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
) -> None:
    monkeypatch.setattr(viewer_module, "first_state_of", raising(kind("<img src=x>")))
    viewer = opened(viewed)
    wait_for(lambda: viewer.is_stopped)
    assert "\\<img src=x\\>" in viewer._panel._status.content


def test_a_viewer_that_cannot_be_made_gives_its_port_back(
    viewed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port("127.0.0.1", 0)
    monkeypatch.setattr(viewer_module, "Panel", raising(ValueError("no panel")))
    with pytest.raises(ValueError, match="no panel"):
        open_viewer(viewed, "127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port
