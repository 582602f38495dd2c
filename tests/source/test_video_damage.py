"""Videos that are broken: every kind has its own error or a counted warning, and no pixel is made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from da3stream.config import SourceConfig
from da3stream.errors import InputError, NoFramesError, NotAVideoError, NoVideoStreamError
from da3stream.scene import Frame
from da3stream.source import VideoSource

from .clips import VideoMaker, assert_resized, decoded_rgb

ALL = SourceConfig(select="all", resolution=84)


def read(path: Path) -> tuple[list[Frame], list[str]]:
    source = VideoSource(path, ALL)
    return list(source), source.warnings


def assert_frames_are_those_of(frames: list[Frame], whole: Path) -> None:
    """Every frame equals the frame of the undamaged file at the same time."""
    expected = decoded_rgb(whole)
    for frame in frames:
        rgb = expected[round(frame.timestamp_s * 30)]
        assert_resized(frame.image, rgb, 84)


def write_audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        silence.rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode())


def write_text(path: Path) -> None:
    path.write_text("This is no video, whatever it is called.\n" * 50)


def write_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(5).bytes(100_000))


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (write_text, NotAVideoError, "is no video that can be read"),
        (write_noise, NotAVideoError, "is no video that can be read"),
        (write_nothing, NoFramesError, "is empty"),
        (write_audio, NoVideoStreamError, "streams: audio"),
    ],
)
def test_files_that_are_no_videos(
    tmp_path: Path, write: Callable[[Path], None], error: type[InputError], message: str
) -> None:
    path = tmp_path / "input.mp4"
    write(path)
    with pytest.raises(error, match=message) as caught:
        list(VideoSource(path, ALL))
    assert str(path) in str(caught.value)
    with pytest.raises(error):
        VideoSource(path, ALL).size_hint()


def test_an_mp4_without_its_index(make_video: VideoMaker) -> None:
    path = make_video("interrupted.mp4")  # the index comes last
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(NotAVideoError, match="lacks its index"):
        list(VideoSource(path, ALL))


def test_a_truncated_mp4_gives_what_is_there_and_says_what_is_missing(make_video: VideoMaker) -> None:
    whole = make_video("whole.mp4", frames=60, movflags="faststart")
    path = whole.with_name("cut.mp4")
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    frames, warnings = read(path)
    assert 25 <= len(frames) <= 45
    assert_frames_are_those_of(frames, whole)
    (truncation,) = [warning for warning in warnings if "truncated" in warning]
    assert "of 2.00 s" in truncation
    assert f"({frames[-1].source_index + 1} frames)" in truncation or "skipped" in " ".join(warnings)


def test_a_truncated_mkv_gives_what_is_there_and_says_what_is_missing(make_video: VideoMaker) -> None:
    whole = make_video("whole.mkv", frames=60)
    path = whole.with_name("cut.mkv")
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    frames, warnings = read(path)
    assert 25 <= len(frames) <= 45
    assert_frames_are_those_of(frames, whole)
    assert any("truncated" in warning for warning in warnings)


def test_a_truncated_transport_stream_gives_what_is_there(make_video: VideoMaker) -> None:
    whole = make_video("whole.ts", frames=60)
    path = whole.with_name("cut.ts")
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    frames, _ = read(path)  # a transport stream does not know its length
    assert 25 <= len(frames) <= 45
    expected = decoded_rgb(whole)
    for frame in frames:
        assert_resized(frame.image, expected[frame.source_index], 84)


def packets(path: Path) -> list[av.Packet]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("position", [12, 20, 33])
def test_nothing_that_refers_to_a_broken_packet_is_used(
    make_video: VideoMaker, b_frames: int, position: int
) -> None:
    whole = make_video("whole.mp4", frames=60, gop=10, b_frames=b_frames)
    content = bytearray(whole.read_bytes())
    broken = packets(whole)[position]
    content[broken.pos : broken.pos + broken.size] = bytes(broken.size)
    path = whole.with_name("broken.mp4")
    path.write_bytes(content)

    frames, warnings = read(path)

    assert_frames_are_those_of(frames, whole)
    assert 38 <= len(frames) < 60  # the group of ten around it is lost, and at most the next one
    assert frames[-1].timestamp_s == pytest.approx(59 / 30, abs=0.002)
    assert any(warning == "1 broken packet skipped" for warning in warnings)
    assert [frame.index for frame in frames] == list(range(len(frames)))


def test_a_video_of_broken_packets_alone(make_video: VideoMaker) -> None:
    path = make_video("all.mp4", frames=12)
    content = bytearray(path.read_bytes())
    for packet in packets(path):
        content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(content)
    with pytest.raises(NoFramesError, match="could be decoded; got 12 broken packets"):
        list(VideoSource(path, ALL))


def test_scattered_damage_never_raises_anything_but_a_known_error(make_video: VideoMaker) -> None:
    whole = make_video("whole.mp4", frames=30)
    rng = np.random.default_rng(11)
    for trial in range(4):
        content = np.frombuffer(whole.read_bytes(), np.uint8).copy()
        hits = rng.integers(0, len(content), 40)
        content[hits] = rng.integers(0, 256, 40)
        path = whole.with_name(f"damaged{trial}.mp4")
        path.write_bytes(content.tobytes())
        try:
            frames, _ = read(path)
        except InputError:
            continue
        assert len(frames) <= 30
