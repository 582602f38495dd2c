"""Real clips, from the folder that DA3STREAM_SHARED names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from da3stream.config import SourceConfig
from da3stream.imaging import resize_for_processing
from da3stream.source import open_source, probe
from da3stream.source.image_file import read_rgb

from .clips import assert_resized, decoded_rgb, decoded_times_s

SHARED = Path(os.environ.get("DA3STREAM_SHARED", Path(__file__).parents[3] / "shared")) / "data"
ROBOT = SHARED / "robot_unitree.mp4"
KITTI = SHARED / "kitti_seq1"

pytestmark = pytest.mark.data


@pytest.mark.skipif(not ROBOT.is_file(), reason=f"{ROBOT} is missing")
def test_a_video_with_an_edit_list() -> None:
    """175 packets, the first of which the edit list hides: 174 frames, the first one no key frame."""
    source = open_source(ROBOT, SourceConfig(select="all"))
    frames = list(source)
    assert source.warnings == []
    assert [frame.source_index for frame in frames] == list(range(174))
    assert [frame.timestamp_s for frame in frames] == decoded_times_s(ROBOT)
    expected = decoded_rgb(ROBOT)
    for index in (0, 80, 173):
        assert_resized(frames[index].image, expected[index], 504)


@pytest.mark.skipif(not ROBOT.is_file(), reason=f"{ROBOT} is missing")
def test_ten_frames_a_second_of_a_video_of_fifty() -> None:
    described = probe(ROBOT, SourceConfig())
    assert (described.width, described.height) == (1024, 576)
    assert described.is_variable_rate is False
    frames = list(open_source(ROBOT, SourceConfig()))
    assert [frame.source_index for frame in frames] == list(range(0, 174, 5))
    assert described.selected_frames == len(frames)
    np.testing.assert_allclose(np.diff([frame.timestamp_s for frame in frames]), 0.1, atol=1e-6)


@pytest.mark.skipif(not KITTI.is_dir(), reason=f"{KITTI} is missing")
def test_a_folder_of_wide_images() -> None:
    folder = next(path for path in sorted(KITTI.rglob("*")) if path.is_dir() and list(path.glob("*.png")))
    source = open_source(folder, SourceConfig(max_frames=3))
    assert open_source(folder, SourceConfig()).size_hint() == 51
    frames = list(source)
    assert frames[0].original_size == (1226, 370)
    assert frames[0].size == (504, 154)
    path = folder / str(frames[2].name)
    np.testing.assert_array_equal(frames[2].image, resize_for_processing(read_rgb(path), 504))
    (original,) = source.originals([2])
    assert original.data == path.read_bytes()


@pytest.mark.skipif(not ROBOT.is_file(), reason=f"{ROBOT} is missing")
def test_a_slow_video_is_thinned_by_motion_the_same_each_time() -> None:
    source = open_source(ROBOT, SourceConfig(select="motion"))
    first, second = ([frame.source_index for frame in source] for _ in range(2))
    assert first == second
    assert 10 <= len(first) <= 20
    assert (first[0], first[-1]) == (0, 173)
    assert source.warnings == [
        f"selected {len(first)} of 174 frames by motion (--select all takes all of them)"
    ]


@pytest.mark.skipif(not KITTI.is_dir(), reason=f"{KITTI} is missing")
def test_a_drive_is_taken_whole_by_motion() -> None:
    assert len(list(open_source(KITTI / "image_l", SourceConfig(select="motion", resolution=84)))) == 51
