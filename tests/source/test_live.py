"""Frames of a camera: a small RTSP server that breaks, comes back, is silent, or too fast."""

from __future__ import annotations

import functools
import http.server
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from da3stream.config import SourceConfig
from da3stream.errors import InputError, MixedImageSizesError, NoFramesError
from da3stream.source import LiveSource, open_source, probe
from da3stream.source.decoder_process import DecoderProcess
from da3stream.source.live_address import LiveAddress, Patience, live_address

from .clips import encode_video
from .rtsp_server import RtspCamera
from .test_decoder_process import is_gone

ALL = SourceConfig(select="all", resolution=84)
HASTY = Patience(answer_s=10, silence_s=5, first_delay_s=0.05, longest_delay_s=0.2, give_up_s=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds at 30 frames/s."""
    return encode_video(tmp_path_factory.mktemp("live") / "clip.ts", frames=60)


@pytest.fixture
def decoders(started: list[DecoderProcess]) -> Iterator[list[DecoderProcess]]:
    """The decoder processes; all are gone in the end."""
    yield started
    assert all(is_gone(process.pid) for process in started)


def live(url: str, config: SourceConfig = ALL, patience: Patience = HASTY) -> LiveSource:
    address = live_address(url)
    assert address is not None
    return LiveSource(address, config, patience)


def assert_increasing(times_s: list[float]) -> None:
    assert (np.diff(times_s) > 0).all()


def test_a_camera_that_switches_off(clip: Path, decoders: list[DecoderProcess]) -> None:
    with RtspCamera([clip], clip_s=0.5) as camera:
        source = live(camera.url)
        frames = list(source)
    assert 55 <= len(frames) <= 60
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert_increasing([frame.timestamp_s for frame in frames])
    np.testing.assert_allclose([frame.timestamp_s for frame in frames[:50]], np.arange(50) / 30, atol=0.002)
    assert frames[0].timestamp_s == 0
    assert frames[0].original_size == (160, 96)
    assert frames[0].image.shape == (56, 84, 3)
    assert source.warnings == ["the stream ended and did not come back within 1 s"]
    assert not source.is_capturing


def test_a_stream_that_breaks_twice_is_connected_again(clip: Path, decoders: list[DecoderProcess]) -> None:
    with RtspCamera([clip, clip, clip], clip_s=0.3) as camera:
        source = live(camera.url)
        frames = list(source)
        assert camera.served == 3
    assert 3 * 55 <= len(frames) <= 180
    assert_increasing([frame.timestamp_s for frame in frames])
    assert_increasing([frame.source_index for frame in frames])
    again, ended = source.warnings
    assert "connected again 2 times" in again
    assert "did not come back" in ended
    assert len(decoders) == 1


def test_time_goes_on_by_the_wall_clock_after_a_break(clip: Path, decoders: list[DecoderProcess]) -> None:
    slow = Patience(first_delay_s=2.5, longest_delay_s=2.5, give_up_s=3)
    with RtspCamera([clip, clip], clip_s=0.1) as camera:
        config = SourceConfig(select="all", resolution=84, max_frames=70)
        times_s = [frame.timestamp_s for frame in live(camera.url, config, slow)]
    gaps_s = np.diff(times_s)
    assert (gaps_s > 0.5).sum() == 1
    # From the first frame's 0 s over the break; the clip itself is 2 s long.
    assert times_s[int(gaps_s.argmax()) + 1] >= 2.5


def test_another_size_after_a_break_is_an_error_after_the_frames_before(
    clip: Path, tmp_path: Path, decoders: list[DecoderProcess]
) -> None:
    larger = encode_video(tmp_path / "larger.ts", frames=30, size=(192, 96))
    with RtspCamera([clip, larger], clip_s=0.3) as camera:
        frames = iter(live(camera.url))
        assert len(list(itertools.islice(frames, 55))) == 55
        with pytest.raises(MixedImageSizesError, match=r"192x96; expected 160x96 .* da3stream resume RUN"):
            list(frames)


def test_a_slow_reader_gets_evenly_spread_frames_and_a_count(
    tmp_path: Path, decoders: list[DecoderProcess]
) -> None:
    clip = encode_video(tmp_path / "long.ts", frames=300)
    config = SourceConfig(select="all", resolution=168)
    with RtspCamera([clip], clip_s=2) as camera:
        source = live(camera.url, config)
        frames = iter(source)
        taken = [next(frames)]
        while not camera.served:
            time.sleep(0.02)
        taken += frames
    dropped = 300 - len(taken)
    assert dropped > 20
    assert any(
        warning.startswith("dropped ") and "because estimation is slower" in warning
        for warning in source.warnings
    )
    assert_increasing([frame.timestamp_s for frame in taken])
    assert taken[-1].source_index >= 295, "the newest frame is always there"
    assert np.diff([frame.source_index for frame in taken]).max() < 40


@pytest.mark.parametrize("options", [{"max_frames": 5}, {"end": 0.5, "fps": 10.0}])
def test_the_selection_ends_the_capture(
    clip: Path, options: dict[str, float], decoders: list[DecoderProcess]
) -> None:
    with RtspCamera([clip], clip_s=0.5) as camera:
        source = live(camera.url, SourceConfig(resolution=84, **options))  # type: ignore[arg-type]
        frames = list(source)
    assert len(frames) == 5
    np.testing.assert_allclose(np.diff([frame.timestamp_s for frame in frames]), 0.1, atol=0.02)
    assert source.warnings == []


def test_every_and_the_usual_ten_frames_a_second(clip: Path, decoders: list[DecoderProcess]) -> None:
    for config, expected in (
        (SourceConfig(every=20, resolution=84), 3),
        (SourceConfig(resolution=84), 20),
    ):
        with RtspCamera([clip], clip_s=0.3) as camera:
            assert len(list(live(camera.url, config))) == expected


def test_a_camera_that_stands_still_gives_one_frame(tmp_path: Path, decoders: list[DecoderProcess]) -> None:
    still = encode_video(tmp_path / "still.ts", pictures=[0] * 60)
    with RtspCamera([still], clip_s=0.3) as camera:
        source = live(camera.url, SourceConfig(select="motion", resolution=84))
        assert len(list(source)) == 1
    (selected,) = [line for line in source.warnings if "by motion" in line]
    assert selected.startswith("selected 1 of ")


def test_stopping_by_hand_is_the_end_of_the_stream(clip: Path, decoders: list[DecoderProcess]) -> None:
    with RtspCamera([clip], clip_s=6) as camera:
        source = live(camera.url)
        taken = []
        for frame in source:
            assert source.is_capturing or frame.index > 3
            taken.append(frame)
            if frame.index == 3:
                threading.Thread(target=source.stop).start()
    assert 4 <= len(taken) < 55
    assert source.warnings == []


def test_stopping_ends_the_wait_for_a_camera_that_is_gone(clip: Path, decoders: list[DecoderProcess]) -> None:
    with RtspCamera([clip], clip_s=0.2) as camera:
        source = live(camera.url, patience=Patience(first_delay_s=500, longest_delay_s=500, give_up_s=1000))
        for frame in source:
            if frame.index == 50:
                source.stop()
    assert source.warnings == []


def test_stopping_before_the_start_takes_nothing(clip: Path, decoders: list[DecoderProcess]) -> None:
    with RtspCamera([clip], clip_s=6) as camera:
        source = live(camera.url)
        source.stop()
        with pytest.raises(NoFramesError, match="ended before a frame was taken"):
            list(source)


def test_a_server_that_never_answers(clip: Path, decoders: list[DecoderProcess]) -> None:
    impatient = Patience(answer_s=0.5)
    with (
        RtspCamera([clip], clip_s=1, answers=False) as camera,
        pytest.raises(InputError, match=r"cannot be opened; got no answer within 0\.5 s\. Check the address"),
    ):
        list(live(camera.url, patience=impatient))


def test_a_camera_that_falls_silent_counts_as_broken(clip: Path, decoders: list[DecoderProcess]) -> None:
    patience = Patience(answer_s=10, silence_s=0.3, first_delay_s=0.05, longest_delay_s=0.05, give_up_s=9)
    config = SourceConfig(select="all", resolution=84, max_frames=90)
    with RtspCamera([clip, clip], clip_s=0.3, hangs_up=False) as camera:
        source = live(camera.url, config, patience)
        assert len(list(source)) == 90
    assert "the stream broke and was connected again once: frames are missing there" in source.warnings


def test_nobody_listens_and_no_webcam(decoders: list[DecoderProcess]) -> None:
    with pytest.raises(InputError, match=r"rtsp://u:\*\*\*@127\.0\.0\.1:9/a cannot be opened; got .*refused"):
        list(open_source("rtsp://u:secret@127.0.0.1:9/a", ALL))
    with pytest.raises(InputError, match=r"/dev/video977 cannot be opened; .* ls /dev/video"):
        list(open_source("977", ALL))


def test_a_protocol_that_is_not_built_in_says_how_to_pipe_it(decoders: list[DecoderProcess]) -> None:
    """As srt in PyAV's wheels; this one is in no build."""
    address = LiveAddress(url="nosuch://host/a", shown="nosuch://host/a")
    with pytest.raises(InputError, match=r"Protocol not found\. PyAV's FFmpeg lacks .* ffmpeg -i "):
        list(LiveSource(address, ALL, HASTY))


def test_it_cannot_be_read_twice(clip: Path, decoders: list[DecoderProcess]) -> None:
    with RtspCamera([clip], clip_s=0.2) as camera:
        source = live(camera.url, SourceConfig(max_frames=2, resolution=84))
        assert len(list(source)) == 2
        with pytest.raises(InputError, match="cannot be read a second time"):
            list(source)


def test_leaving_early_ends_the_process(clip: Path, decoders: list[DecoderProcess]) -> None:
    with RtspCamera([clip], clip_s=6) as camera:
        frames = iter(live(camera.url))
        assert len(list(itertools.islice(frames, 3))) == 3
        frames.close()  # type: ignore[attr-defined]
        assert is_gone(decoders[0].pid)


def test_probe_waits_for_the_first_frame(clip: Path, decoders: list[DecoderProcess]) -> None:
    with RtspCamera([clip], clip_s=1) as camera:
        described = probe(camera.url, SourceConfig())
    assert (described.kind, described.codec, described.container) == ("live", "h264", "rtsp")
    assert (described.width, described.height) == (160, 96)
    assert (described.frames, described.duration_s, described.selected_frames) == (None, None, None)


def test_a_file_on_a_web_server_waits_for_its_reader(tmp_path: Path, decoders: list[DecoderProcess]) -> None:
    encode_video(tmp_path / "long.mkv", frames=200)
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        source = live(
            f"http://127.0.0.1:{server.server_address[1]}/long.mkv",
            SourceConfig(select="all", resolution=168),
        )
        frames = iter(source)
        first = next(frames)
        time.sleep(0.5)  # with thinning, some would be gone by now
        rest = list(frames)
        server.shutdown()
    assert [first.source_index, *(frame.source_index for frame in rest)] == list(range(200))
    assert source.warnings == []


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""
