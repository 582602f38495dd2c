"""Videos for several tests."""

from __future__ import annotations

from pathlib import Path

import pytest

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
