"""From a path to a source, and what `info` shows of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from da3stream.config import SourceConfig
from da3stream.errors import InputNotFoundError, NoFramesError, NotAVideoError
from da3stream.source import ImageFolderSource, VideoSource, open_source, probe

from .clips import VideoMaker, picture

CONFIG = SourceConfig()


def test_the_path_decides(video: Path, tmp_path: Path) -> None:
    image = tmp_path / "one.PNG"
    image.write_bytes(cv2.imencode(".png", picture(0))[1].tobytes())
    assert isinstance(open_source(video, CONFIG), VideoSource)
    assert isinstance(open_source(str(tmp_path), CONFIG), ImageFolderSource)
    assert isinstance(open_source(image, CONFIG), ImageFolderSource)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    for name in ("nothing", "nothing.mp4", "nothing.png"):
        with pytest.raises(InputNotFoundError, match=name):
            open_source(tmp_path / name, CONFIG)
    with pytest.raises(NoFramesError, match="holds no image"):
        open_source(tmp_path, CONFIG)


def test_probe_of_a_video(make_video: VideoMaker) -> None:
    path = make_video("turned.mp4", frames=30, rotation_deg=-90)
    described = probe(path, CONFIG)
    assert (described.kind, described.codec) == ("video", "h264")
    assert "mp4" in described.container
    assert (described.width, described.height, described.rotation_deg) == (96, 160, 90)
    assert described.duration_s == pytest.approx(1, abs=0.05)
    assert (described.frames, described.frames_are_counted) == (30, True)
    assert described.average_fps == pytest.approx(30, rel=0.02)
    assert described.timestamps == "container"
    assert described.selected_frames in (10, 11)
    assert (described.processing_width, described.processing_height) == (308, 504)


def test_probe_of_a_container_that_does_not_count(make_video: VideoMaker) -> None:
    described = probe(make_video("a.mkv", frames=30), CONFIG)
    assert not described.frames_are_counted
    assert described.frames == pytest.approx(30, abs=1)


def test_probe_tells_a_variable_rate(make_video: VideoMaker, video: Path) -> None:
    times_ms = [0, 33, 67, 100, 600, 1100, 1133, 1167, 3000]
    assert probe(make_video("variable.mp4", times_ms=times_ms), CONFIG).is_variable_rate is True
    assert probe(video, CONFIG).is_variable_rate is False


def test_probe_of_images(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(cv2.imencode(".png", picture(index))[1].tobytes())
    described = probe(tmp_path, CONFIG)
    assert (described.kind, described.container, described.codec) == ("images", "png", None)
    assert (described.width, described.height, described.frames) == (160, 96, 3)
    assert (described.timestamps, described.duration_s) == ("synthetic", None)
    assert described.selected_frames == 3
    assert (described.processing_width, described.processing_height) == (504, 308)


def test_probe_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "readme.mp4"
    path.write_text("no video " * 100)
    with pytest.raises(NotAVideoError):
        probe(path, CONFIG)


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, da3stream.source, da3stream.source.opening, da3stream.imaging;"
        "print([m for m in ('torch', 'cv2', 'av', 'pycolmap') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
