"""Which inputs are live, and that passwords stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from da3stream.config import SourceConfig
from da3stream.source import LiveSource, PipedSource, VideoSource, is_live, open_source
from da3stream.source.live_address import live_address, without_secrets


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://camera/stream",
        "RTSP://user:secret@10.0.0.2:554/h264",
        "rtmp://server/live",
        "https://server/live.m3u8",
        "udp://@:5000",
        "tcp://127.0.0.1:99",
        "srt://server:9000",
    ],
)
def test_urls_are_live_and_opened_as_they_are(text: str) -> None:
    address = live_address(text)
    assert address is not None
    assert (address.url, address.format) == (text, None)
    assert type(open_source(text, SourceConfig())) is LiveSource


def test_webcams_by_number_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("2", "/dev/video2"):
        address = live_address(text)
        assert address is not None
        assert (address.url, address.format) == ("/dev/video2", "v4l2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2").mkdir()
    assert live_address("2") is None


@pytest.mark.parametrize("text", ["video.mp4", "/data/rtsp/a.mp4", "C:/x.mp4", "file:///a.mp4", "--", "1.5"])
def test_all_else_is_a_path(text: str) -> None:
    assert live_address(text) is None
    assert not is_live(text)


def test_minus_is_standard_input(video: Path) -> None:
    assert is_live("-")
    assert type(open_source("-", SourceConfig())) is PipedSource
    assert type(open_source(video, SourceConfig())) is VideoSource


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://camera/a?b=1", "rtsp://camera/a?b=1"),
        ("rtsp://user@camera/a", "rtsp://user@camera/a"),
        ("rtsp://user:p@ss:word@camera/a", "rtsp://user:***@camera/a"),
        ("srt://host:9?passphrase=abc&mode=caller", "srt://host:9?passphrase=***&mode=caller"),
        ("https://host/a.m3u8?token=abc", "https://host/a.m3u8?token=***"),
    ],
)
def test_secrets_are_neither_shown_nor_stored(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
    source = LiveSource(live_address(url), SourceConfig())  # type: ignore[arg-type]
    assert source.input == shown
    assert shown in source.identity()


def test_identity_tells_selections_apart() -> None:
    def identity(**options: object) -> str:
        return open_source("rtsp://camera/a", SourceConfig(**options)).identity()  # type: ignore[arg-type]

    assert identity() == identity()
    assert len({identity(), identity(fps=2.0), identity(end=9.0), identity(resolution=280)}) == 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"max_frames": 7}, 7),
        ({"end": 6.0}, 60),
        ({"end": 6.0, "start": 2.0, "fps": 3.0}, 12),
        ({"end": 6.0, "max_frames": 7}, 7),
        ({"end": 6.0, "select": "all"}, None),
    ],
)
def test_size_hint_is_what_the_selection_allows(options: dict[str, object], expected: int | None) -> None:
    assert open_source("rtsp://camera/a", SourceConfig(**options)).size_hint() == expected  # type: ignore[arg-type]
