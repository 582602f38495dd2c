"""Videos for several tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from da3stream.source.decoder_process import DecoderProcess

from .clips import VideoMaker, encode_video


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames at 30 frames/s, a key frame every 10."""
    return encode_video(tmp_path_factory.mktemp("video") / "plain.mp4")


@pytest.fixture
def make_video(tmp_path: Path) -> VideoMaker:
    """Encodes a video: file name, then the options of `encode_video`."""

    def make(name: str, **options: object) -> Path:
        return encode_video(tmp_path / name, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[DecoderProcess]]:
    """All decoder processes that were started, in order."""
    processes: list[DecoderProcess] = []
    original = DecoderProcess.__enter__

    def remember(process: DecoderProcess) -> DecoderProcess:
        processes.append(process)
        return original(process)

    monkeypatch.setattr(DecoderProcess, "__enter__", remember)
    yield processes
    assert processes
