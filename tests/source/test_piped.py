"""A container that comes through a pipe."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from da3stream.config import SourceConfig
from da3stream.errors import InputError, NoFramesError, NotAVideoError
from da3stream.source import PipedSource, VideoSource

from .clips import VideoMaker, encode_video

ALL = SourceConfig(select="all", resolution=84)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode_video(tmp_path_factory.mktemp("piped") / "clip.mkv", frames=60)


@contextmanager
def pipe_of(content: bytes, *, stays_open: bool = False) -> Iterator[int]:
    """The reading end of a pipe into which a thread writes; it may be left before all is read."""
    reading, writing = os.pipe()
    left = threading.Event()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), open(writing, "wb", closefd=False) as stream:
            stream.write(content)
        if stays_open:
            left.wait()
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield reading
    finally:
        os.close(reading)
        left.set()
        writer.join()


def test_a_pipe_gives_the_frames_of_the_file(clip: Path) -> None:
    with pipe_of(clip.read_bytes()) as descriptor:
        source = PipedSource(ALL, descriptor)
        assert source.size_hint() is None
        frames = list(source)
    expected = list(VideoSource(clip, ALL))
    assert len(frames) == len(expected) == 60
    for frame, other in zip(frames, expected, strict=True):
        assert (frame.source_index, frame.timestamp_s) == (other.source_index, other.timestamp_s)
        np.testing.assert_array_equal(frame.image, other.image)
    assert source.warnings == []


def test_a_slow_reader_loses_nothing(tmp_path: Path) -> None:
    long = encode_video(tmp_path / "long.ts", frames=150)
    with pipe_of(long.read_bytes()) as descriptor:
        frames = iter(PipedSource(SourceConfig(select="all", resolution=504), descriptor))
        first = next(frames)
        threading.Event().wait(0.5)
        numbers = [first.source_index, *(frame.source_index for frame in frames)]
    assert numbers == list(range(150))


def test_a_truncated_pipe_gives_what_came_through(clip: Path) -> None:
    content = clip.read_bytes()
    with pipe_of(content[: len(content) // 2]) as descriptor:
        frames = list(PipedSource(ALL, descriptor))
    assert 10 < len(frames) < 60
    assert [frame.source_index for frame in frames] == list(range(len(frames)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n" * 1000,
        bytes(range(256)) * 400,
    ],
)
def test_what_is_no_video(content: bytes) -> None:
    expected = r"standard input is no video .* front to back, .* failed\? .* ffmpeg -i .* -f matroska -"
    with pipe_of(content) as descriptor, pytest.raises(NotAVideoError, match=expected):
        list(PipedSource(ALL, descriptor))


def test_an_mp4_with_its_index_at_the_end_says_what_to_do(make_video: VideoMaker) -> None:
    content = make_video("plain.mp4", frames=300, size=(320, 192)).read_bytes()
    expected = r"no frame of standard input .* index is at its end .* ffmpeg -i .* -f matroska -"
    with pipe_of(content) as descriptor, pytest.raises(NoFramesError, match=expected):
        list(PipedSource(ALL, descriptor))


def test_it_can_be_read_once(clip: Path) -> None:
    with pipe_of(clip.read_bytes()) as descriptor:
        source = PipedSource(SourceConfig(max_frames=3, resolution=84), descriptor)
        assert len(list(source)) == 3
        with pytest.raises(InputError, match="cannot be read a second time"):
            list(source)


def test_stopping_does_not_wait_for_the_program_before_the_pipe(clip: Path) -> None:
    content = clip.read_bytes()
    with pipe_of(content[: len(content) * 3 // 4], stays_open=True) as descriptor:
        source = PipedSource(ALL, descriptor)
        taken = []
        for frame in source:
            taken.append(frame)
            if frame.index == 5:
                threading.Thread(target=source.stop).start()
    assert len(taken) >= 6
    assert source.warnings == []


def test_describing_takes_the_start_of_the_pipe(clip: Path) -> None:
    with pipe_of(clip.read_bytes()) as descriptor:
        described = PipedSource(ALL, descriptor).describe()
    assert (described.width, described.height, described.codec) == (160, 96, "h264")


def test_a_terminal_is_no_video() -> None:
    controlling, terminal = os.openpty()
    try:
        with pytest.raises(InputError, match="standard input is a terminal"):
            list(PipedSource(ALL, terminal))
    finally:
        os.close(controlling)
        os.close(terminal)
