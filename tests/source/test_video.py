"""Videos that are whole."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from da3stream.config import SourceConfig
from da3stream.errors import InputNotFoundError, MixedImageSizesError, NoFramesError
from da3stream.imaging import resize_for_processing
from da3stream.source import VideoSource
from da3stream.source.base import FrameSource, HasOriginals

from .clips import (
    FPS,
    HEIGHT,
    WIDTH,
    VideoMaker,
    assert_resized,
    decoded_rgb,
    decoded_times_s,
    encode_video,
)

ALL = SourceConfig(select="all", resolution=84)


def test_frames_are_the_resized_decoded_ones(video: Path) -> None:
    source = VideoSource(video, ALL)
    frames = list(source)
    expected = decoded_rgb(video)
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.source_index for frame in frames] == list(range(30))
    for frame, rgb in zip(frames, expected, strict=True):
        assert_resized(frame.image, rgb, 84)
    assert frames[7].name == "000007.jpg"
    assert frames[7].original_size == (WIDTH, HEIGHT)
    assert [frame.timestamp_s for frame in frames] == decoded_times_s(video)
    assert source.warnings == []
    assert not source.timestamps_are_synthetic
    assert isinstance(source, FrameSource)
    assert isinstance(source, HasOriginals)


def test_growing_and_padded_rows(make_video: VideoMaker) -> None:
    path = make_video("odd.mp4", frames=3, size=(150, 90))  # 150 pixels: FFmpeg pads the rows
    frames = list(VideoSource(path, SourceConfig(select="all", resolution=504)))
    for frame, rgb in zip(frames, decoded_rgb(path), strict=True):
        np.testing.assert_array_equal(frame.image, resize_for_processing(rgb, 504))


@pytest.mark.parametrize("name", ["a.mkv", "b.ts"])
def test_other_containers_keep_their_own_times(make_video: VideoMaker, name: str) -> None:
    path = make_video(name, frames=12)
    frames = list(VideoSource(path, ALL))
    assert len(frames) == 12
    assert [frame.timestamp_s for frame in frames] == decoded_times_s(path)
    if name.endswith(".ts"):
        assert frames[0].timestamp_s > 0  # a transport stream does not start at 0


def test_iterating_again_starts_from_the_beginning(video: Path) -> None:
    source = VideoSource(video, SourceConfig(max_frames=2, resolution=84))
    first, second = list(source), list(source)
    assert [frame.source_index for frame in first] == [frame.source_index for frame in second] == [0, 3]
    np.testing.assert_array_equal(first[1].image, second[1].image)


def test_selection_is_by_real_time_at_variable_rate(make_video: VideoMaker) -> None:
    times_ms = [0, 20, 40, 60, 500, 510, 1000, 1050, 1100, 3000]
    path = make_video("variable.mp4", times_ms=times_ms)
    frames = list(VideoSource(path, SourceConfig(fps=10, resolution=84)))
    assert [frame.source_index for frame in frames] == [0, 4, 6, 8, 9]
    assert [frame.timestamp_s for frame in frames] == pytest.approx([0, 0.5, 1, 1.1, 3])
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]


def test_start_and_end_count_from_the_first_frame(make_video: VideoMaker) -> None:
    path = make_video("offset.ts", frames=30)
    config = SourceConfig(select="all", start=0.5, end=0.7, resolution=84)
    frames = list(VideoSource(path, config))
    assert [frame.source_index for frame in frames] == [15, 16, 17, 18, 19, 20]
    assert frames[0].timestamp_s == decoded_times_s(path)[15]


@pytest.mark.parametrize("rotation_deg", [90, 180, -90])
def test_the_rotation_of_the_container_is_applied(make_video: VideoMaker, rotation_deg: int) -> None:
    path = make_video("turned.mp4", frames=2, rotation_deg=rotation_deg)
    source = VideoSource(path, ALL)
    frames = list(source)
    (stored, _) = decoded_rgb(path)
    upright = np.rot90(stored, rotation_deg // 90)  # both turn counterclockwise
    assert frames[0].original_size == (upright.shape[1], upright.shape[0])
    assert_resized(frames[0].image, upright, 84)
    (original,) = source.originals([0])
    decoded = cv2.imdecode(np.frombuffer(original.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert decoded.shape == upright.shape
    assert np.abs(decoded.astype(int) - upright).mean() < 10


def test_originals_are_full_size_jpeg_of_exactly_these_frames(video: Path) -> None:
    source = VideoSource(video, ALL)
    originals = list(source.originals(iter([3, 11, 29])))
    stored = decoded_rgb(video)
    assert [original.source_index for original in originals] == [3, 11, 29]
    for original in originals:
        assert original.suffix == ".jpg"
        decoded = cv2.imdecode(np.frombuffer(original.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        errors = [np.abs(decoded.astype(int) - rgb).mean() for rgb in stored]
        assert int(np.argmin(errors)) == original.source_index
        assert min(errors) < 10


def test_originals_of_nothing_and_in_wrong_order(video: Path) -> None:
    source = VideoSource(video, ALL)
    assert list(source.originals([])) == []
    with pytest.raises(ValueError, match="ascend"):
        list(source.originals([3, 3]))


def test_size_hint_follows_the_selection(video: Path) -> None:
    assert VideoSource(video, ALL).size_hint() == 30
    assert VideoSource(video, SourceConfig(resolution=84)).size_hint() in (10, 11)  # an estimate


def test_identity_depends_on_content_and_selection(video: Path, tmp_path: Path) -> None:
    copy = tmp_path / "renamed.mp4"
    copy.write_bytes(video.read_bytes())
    identity = VideoSource(video, ALL).identity()
    assert VideoSource(copy, ALL).identity() == identity
    assert VideoSource(video, SourceConfig(select="all", resolution=98)).identity() != identity
    assert VideoSource(video, SourceConfig(select="all", resolution=84, every=2)).identity() != identity
    changed = bytearray(video.read_bytes())
    changed[len(changed) // 2] ^= 1
    copy.write_bytes(changed)
    assert VideoSource(copy, ALL).identity() != identity


STANDING = [*range(0, 20, 2), *[20] * 15, *range(22, 40, 2)]
"""The picture moves by 2 of 160 pixels a frame, stands still from frame 10 to 24, and moves on."""
MOVING = [*range(11), *range(25, 34)]


def test_motion_drops_standing_still_and_says_so(make_video: VideoMaker) -> None:
    path = make_video("standing.mp4", pictures=STANDING)
    source = VideoSource(path, SourceConfig(select="motion", resolution=84))
    frames = list(source)
    assert [frame.source_index for frame in frames] == MOVING
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.timestamp_s for frame in frames] == [decoded_times_s(path)[k] for k in MOVING]
    assert source.size_hint() == 34
    (said,) = source.warnings
    assert said.startswith("selected 20 of 34 frames by motion")
    assert [frame.source_index for frame in source] == MOVING
    assert source.warnings == [said]


def test_motion_after_the_rate_and_before_the_limit(make_video: VideoMaker) -> None:
    path = make_video("standing.mp4", pictures=STANDING)
    config = SourceConfig(select="motion", every=2, max_frames=8, resolution=84)
    assert [f.source_index for f in VideoSource(path, config)] == [0, 2, 4, 6, 8, 10, 26, 28]


def test_a_long_video_is_selected_by_motion(make_video: VideoMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video("standing.mp4", pictures=STANDING)
    short = VideoSource(path, SourceConfig(resolution=84))
    assert short.rule.motion is None
    monkeypatch.setattr("da3stream.source.selection.LONG_VIDEO_FRAMES", 10)
    long = VideoSource(path, SourceConfig(resolution=84))
    assert [frame.source_index for frame in long] == [0, 3, 6, 9, 12, 27, 30, 33]
    assert long.identity() != short.identity()


def test_the_identity_tells_whether_and_how_motion_selects(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_motion = VideoSource(video, SourceConfig(select="motion")).identity()
    assert by_motion != VideoSource(video, SourceConfig(select="all")).identity()
    monkeypatch.setattr("da3stream.source.selection.MOTION", 0.02)
    assert by_motion != VideoSource(video, SourceConfig(select="motion")).identity()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match=r"nowhere\.mp4"):
        VideoSource(tmp_path / "nowhere.mp4", ALL)


def test_a_selection_that_leaves_nothing_says_so(video: Path) -> None:
    with pytest.raises(NoFramesError, match=r"selection leaves no frame .* video of 1\.00 s"):
        list(VideoSource(video, SourceConfig(start=5)))


def test_a_change_of_size_is_an_error(tmp_path: Path) -> None:
    joined = tmp_path / "joined.ts"
    parts = [encode_video(tmp_path / f"{w}.ts", frames=10, size=(w, 96)) for w in (160, 192)]
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    source = VideoSource(joined, ALL)
    iterator = iter(source)
    with pytest.raises(MixedImageSizesError, match="got 192x96; expected 160x96"):
        list(iterator)


def test_times_that_go_back_are_repaired_and_reported(tmp_path: Path) -> None:
    joined = tmp_path / "joined.ts"
    part = encode_video(tmp_path / "part.ts", frames=10).read_bytes()
    joined.write_bytes(part + part)
    source = VideoSource(joined, ALL)
    times_s = [frame.timestamp_s for frame in source]
    assert len(times_s) >= 18
    assert np.diff(times_s).min() > 0
    assert np.diff(times_s) == pytest.approx(1 / FPS, abs=0.002)
    assert any("did not increase" in warning for warning in source.warnings)


def test_a_raw_stream_without_times_gets_those_of_its_rate(make_video: VideoMaker) -> None:
    path = make_video("raw.h264", frames=10, b_frames=0)
    source = VideoSource(path, ALL)
    times_s = [frame.timestamp_s for frame in source]
    assert len(times_s) == 10
    assert np.diff(times_s).min() > 0


def test_a_name_that_is_no_unicode_and_a_relative_path(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "av.py").write_text("raise RuntimeError('a file of the user was imported')")
    name = "caf\udce9 -x 1.mp4"
    try:
        Path(name).write_bytes(video.read_bytes())
    except (OSError, UnicodeError):
        pytest.skip("this file system takes Unicode names only")
    assert len(list(VideoSource(name, SourceConfig(resolution=84, max_frames=2)))) == 2


def test_logging_shows_what_warnings_hold(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = encode_video(tmp_path / "cut.mp4", movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = VideoSource(path, ALL)
    list(source)
    assert source.warnings
    assert [record.getMessage() for record in caplog.records] == [
        f"cut.mp4: {text}" for text in source.warnings
    ]
