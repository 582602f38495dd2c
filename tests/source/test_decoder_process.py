"""Life and death of the decoder process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from da3stream.config import SourceConfig
from da3stream.errors import InputError, NoFramesError, ProcessLostError
from da3stream.source import VideoSource
from da3stream.source.decoder_process import DecoderProcess

from .clips import encode_video

ALL = SourceConfig(select="all", resolution=84)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More frames than pipe and queues take, so that the decoder must wait for its reader."""
    return encode_video(tmp_path_factory.mktemp("long") / "long.mp4", frames=150)


def is_gone(pid: int) -> bool:
    """No process and no zombie has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def has_died(pid: int, patience_s: float = 10.0) -> bool:
    """The process, not our child, ends within the time."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if is_gone(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_nothing_is_left_after_a_whole_iteration(long_video: Path, started: list[DecoderProcess]) -> None:
    assert len(list(VideoSource(long_video, ALL))) == 150
    assert is_gone(started[0].pid)


def test_stopping_early_ends_the_process(long_video: Path, started: list[DecoderProcess]) -> None:
    iterator = iter(VideoSource(long_video, SourceConfig(select="all", resolution=1008)))
    next(iterator)
    assert not is_gone(started[0].pid)
    iterator.close()  # type: ignore[attr-defined]
    assert is_gone(started[0].pid)


@pytest.mark.parametrize("signal_name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE"])
def test_frames_before_a_crash_are_used_and_the_loss_is_reported(
    long_video: Path, started: list[DecoderProcess], signal_name: str
) -> None:
    source = VideoSource(long_video, SourceConfig(select="all", resolution=1008))
    frames = []
    for frame in source:
        frames.append(frame)
        if frame.index == 4:
            os.kill(started[0].pid, signal.Signals[signal_name])
    assert 5 <= len(frames) < 150
    assert [frame.source_index for frame in frames] == list(range(len(frames)))
    (warning,) = source.warnings
    assert signal_name in warning
    assert f"after frame {frames[-1].source_index} ({frames[-1].timestamp_s:.2f} s)" in warning
    assert is_gone(started[0].pid)


@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGTERM", "SIGUSR1"])
def test_a_decoder_killed_from_outside_does_not_end_the_video_in_silence(
    long_video: Path, started: list[DecoderProcess], signal_name: str
) -> None:
    source = VideoSource(long_video, SourceConfig(select="all", resolution=1008))
    frames = iter(source)
    next(frames)
    os.kill(started[0].pid, signal.Signals[signal_name])
    with pytest.raises(ProcessLostError, match=f"was killed with {signal_name}.* da3stream resume RUN"):
        list(frames)
    assert source.warnings == []
    assert is_gone(started[0].pid)


def test_a_decoder_killed_before_the_first_frame(
    long_video: Path, monkeypatch: pytest.MonkeyPatch, started: list[DecoderProcess]
) -> None:
    records = DecoderProcess.records

    def kill_first(process: DecoderProcess) -> Iterator[object]:
        os.kill(process.pid, signal.SIGKILL)
        return records(process)

    monkeypatch.setattr(DecoderProcess, "records", kill_first)
    for use in (list, VideoSource.describe, lambda source: list(source.originals([0]))):
        with pytest.raises(ProcessLostError, match="was killed with SIGKILL"):
            use(VideoSource(long_video, ALL))
    assert all(is_gone(process.pid) for process in started)


def test_a_crash_before_the_first_frame_is_an_error(
    long_video: Path, started: list[DecoderProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = DecoderProcess.records

    def kill_first(process: DecoderProcess) -> Iterator[object]:
        os.kill(process.pid, signal.SIGSEGV)
        return records(process)

    monkeypatch.setattr(DecoderProcess, "records", kill_first)
    with pytest.raises(NoFramesError, match="died with SIGSEGV before the first frame"):
        list(VideoSource(long_video, ALL))
    with pytest.raises(NoFramesError, match="died with SIGSEGV before the first frame"):
        VideoSource(long_video, ALL).describe()
    with pytest.raises(InputError, match="cannot be decoded a second time"):
        list(VideoSource(long_video, ALL).originals([0]))


def test_an_interpreter_that_does_not_exist(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(InputError, match="decoder process cannot be started"):
        list(VideoSource(video, ALL))


def test_a_failing_process_shows_its_last_words(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'ImportError: libavcodec.so is missing' >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(InputError, match=r"status 3; got ImportError: libavcodec\.so is missing"):
        list(VideoSource(video, ALL))


SCRIPT = """
    import signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    from da3stream.config import SourceConfig
    from da3stream.source import VideoSource
    from da3stream.source.decoder_process import DecoderProcess

    enter = DecoderProcess.__enter__
    def tell(process):
        print(process.pid, flush=True)
        return enter(process)
    DecoderProcess.__enter__ = tell
    try:
        for frame in VideoSource(sys.argv[1], SourceConfig(select="all", resolution=1008)):
            print("frame", flush=True)
            time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def start_script(video: Path) -> subprocess.Popen[str]:
    """A process in a group of its own, as in a terminal, that waits after the first frame."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(video)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_ctrl_c_reaches_only_the_parent_and_prints_nothing(long_video: Path) -> None:
    with start_script(long_video) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "frame\n"
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert output == "interrupted\n"
    assert errors == ""
    assert has_died(pid)


def test_the_process_dies_with_its_parent(long_video: Path) -> None:
    with start_script(long_video) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "frame\n"
        process.kill()
        process.communicate(timeout=30)
    assert has_died(pid)


def test_the_decoder_process_stays_light(video: Path) -> None:
    """It starts for every pass over a video, so it must not import what it does not need."""
    code = (
        "import sys, da3stream.source.decoder, da3stream.source.frame_scaling;"
        "print([m for m in ('torch', 'scipy', 'pydantic', 'pycolmap', 'faiss') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_frames_own_their_pixels(video: Path) -> None:
    first, second, *_ = VideoSource(video, ALL)
    before = second.image.copy()
    first.image[:] = 0
    np.testing.assert_array_equal(second.image, before)
