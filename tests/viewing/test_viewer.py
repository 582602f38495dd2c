"""A viewer that cannot do all, and what it leaves behind."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from da3stream.errors import ProcessLostError, RunCorruptError
from da3stream.viewing import viewer as viewer_module
from da3stream.viewing.library import free_port
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
