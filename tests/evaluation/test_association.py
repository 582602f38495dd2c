from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from da3stream.errors import InputError
from da3stream.evaluation import PoseSequence, associate


def poses(**known) -> PoseSequence:
    count = len(next(iter(known.values())))
    known = {key: value if key == "names" else np.asarray(value) for key, value in known.items()}
    return PoseSequence(world_from_cam=np.tile(np.eye(4), (count, 1, 1)), **known)


def pairs(association) -> list[tuple[int, int]]:
    return list(zip(association.estimate_rows.tolist(), association.truth_rows.tolist(), strict=True))


def test_times_pair_with_the_nearest_one():
    found = associate(poses(timestamp_s=[0.0, 0.1, 0.2]), poses(timestamp_s=[0.004, 0.07, 0.105, 0.5]))
    assert found.method == "timestamps"
    assert pairs(found) == [(0, 0), (1, 2)]


def test_a_pose_is_used_once():
    found = associate(
        poses(timestamp_s=[0.0, 0.01, 0.02, 0.03]), poses(timestamp_s=[0.012]), max_time_difference_s=0.05
    )
    assert pairs(found) == [(1, 0)]


def test_the_tolerance_is_inclusive_even_for_unix_times():
    start = 1305031102.1758
    later = start + 0.015
    assert later - start > 0.015
    found = associate(poses(timestamp_s=[start]), poses(timestamp_s=[later]), max_time_difference_s=0.015)
    assert pairs(found) == [(0, 0)]


times = st.lists(st.integers(0, 200), min_size=1, max_size=30, unique=True).map(lambda v: np.sort(v) / 10.0)


@given(times, times, st.sampled_from([0.0, 0.1, 0.35]))
def test_pairs_of_times_are_mutual_near_and_ordered(a, b, tolerance):
    try:
        found = associate(poses(timestamp_s=a), poses(timestamp_s=b), max_time_difference_s=tolerance)
    except InputError:
        assert np.abs(a[:, None] - b).min() > tolerance
        return
    assert np.abs(a[found.estimate_rows] - b[found.truth_rows]).max() <= tolerance + 1e-5
    assert (np.diff(found.estimate_rows) > 0).all()
    assert (np.diff(found.truth_rows) > 0).all()
    # Whoever is left out has nobody at the same time.
    assert not set(a) & set(b) - set(a[found.estimate_rows])


@pytest.mark.parametrize(
    ("estimated", "true"),
    [
        (("images/1.jpg", "images/2.jpg"), ("images/2.jpg", "images/3.jpg")),
        (("1.jpg", "2.jpg"), ("images/2.jpg", "images/3.jpg")),
        (("1.png", "2.png"), ("images/2.jpg", "images/3.jpg")),
    ],
)
def test_names_pair_by_path_file_name_or_stem(estimated, true):
    found = associate(poses(names=estimated), poses(names=true))
    assert found.method == "names"
    assert pairs(found) == [(1, 0)]


def test_equal_file_names_in_two_folders_are_told_apart():
    found = associate(poses(names=("left/1.jpg", "right/1.jpg")), poses(names=("right/1.jpg", "left/1.jpg")))
    assert pairs(found) == [(0, 1), (1, 0)]
    with pytest.raises(InputError, match="no image name"):
        associate(poses(names=("1.jpg",)), poses(names=("right/1.jpg", "left/1.jpg")))


def test_names_count_more_than_times():
    found = associate(
        poses(names=("a.jpg", "b.jpg"), timestamp_s=[0, 1]),
        poses(names=("b.jpg", "c.jpg"), timestamp_s=[0, 1]),
    )
    assert pairs(found) == [(1, 0)]


def test_times_help_where_no_name_agrees():
    found = associate(poses(names=("a.jpg",), timestamp_s=[5.0]), poses(names=("x.jpg",), timestamp_s=[5.0]))
    assert found.method == "timestamps"


def test_the_position_in_the_source_is_the_line_of_the_truth():
    found = associate(
        poses(source_index=[0, 3, 6, 99], timestamp_s=[0, 1, 2, 3]), poses(source_index=range(10))
    )
    assert found.method == "index"
    assert pairs(found) == [(0, 0), (1, 3), (2, 6)]
    unnumbered = PoseSequence(world_from_cam=np.tile(np.eye(4), (10, 1, 1)))
    assert pairs(associate(poses(source_index=[0, 3, 6, 99]), unnumbered)) == [(0, 0), (1, 3), (2, 6)]


def test_what_does_not_fit_says_what_both_sides_have():
    with pytest.raises(InputError, match=r"times 0\.0 to 1\.0 s and 100\.0 to 101\.0 s"):
        associate(poses(timestamp_s=[0.0, 1.0]), poses(timestamp_s=[100.0, 101.0]))
    with pytest.raises(InputError, match="frames 50 to 60 and 0 to 1"):
        associate(poses(source_index=[50, 60]), poses(source_index=[0, 1]))


def test_times_that_are_made_up_pair_nothing():
    """Two unrelated folders of images both begin at 0 s."""
    fox = poses(names=("0001.jpg", "0002.jpg"), timestamp_s=[0.0, 0.1], timestamps_are_synthetic=True)
    kitti = poses(names=("000000.png", "000001.png"), timestamp_s=[0.0, 0.1])
    for one, other in ((fox, kitti), (kitti, fox)):
        with pytest.raises(InputError, match="no image name occurs in both"):
            associate(one, other)


def test_made_up_times_leave_the_position():
    run = poses(
        names=("a.png", "d.png"), source_index=[0, 3], timestamp_s=[0.0, 3.0], timestamps_are_synthetic=True
    )
    list_only = PoseSequence(world_from_cam=np.tile(np.eye(4), (5, 1, 1)))
    assert pairs(associate(run, list_only)) == [(0, 0), (1, 3)]
    with pytest.raises(InputError, match="2 poses with names and made-up times and 5 poses with times"):
        associate(run, poses(timestamp_s=[0.0, 1.0, 2.0, 3.0, 4.0]))


def test_positions_count_where_rows_mean_frames_only():
    """Eight poses of every third image are not the first eight of fifty named ones."""
    unnamed, named = poses(timestamp_s=np.arange(2.0)), poses(names=("a.jpg", "b.jpg", "c.jpg"))
    with pytest.raises(InputError, match=r"which poses .* belong together.*run directory"):
        associate(unnamed, named)
    same_length = associate(unnamed, poses(names=("a.jpg", "b.jpg")))
    assert same_length.method == "index"
    assert pairs(same_length) == [(0, 0), (1, 1)]


def test_numbers_of_two_videos_prove_nothing():
    """Every video has a frame 0."""
    numbers = ("000000.jpg", "000003.jpg")
    one = poses(names=numbers, source_index=[0, 3], timestamp_s=[0.0, 0.1], numbered_in="video:1")
    other = poses(names=numbers, source_index=[0, 3], timestamp_s=[0.1, 0.2], numbered_in="video:2")
    by_time = associate(one, other)
    assert by_time.method == "timestamps"
    assert pairs(by_time) == [(1, 0)]
    without_times = poses(
        names=numbers,
        source_index=[0, 3],
        timestamp_s=[0.0, 0.1],
        numbered_in="video:2",
        timestamps_are_synthetic=True,
    )
    with pytest.raises(InputError, match=r"frames of two videos that are only numbered.*made-up times"):
        associate(one, without_times)


def test_numbers_of_one_video_are_names():
    one = poses(names=("000000.jpg", "000003.jpg"), source_index=[0, 3], numbered_in="video:1")
    other = poses(names=("000003.jpg", "000006.jpg"), source_index=[3, 6], numbered_in="video:1")
    found = associate(one, other)
    assert found.method == "names"
    assert pairs(found) == [(1, 0)]


def test_numbers_are_the_names_of_images_that_were_written_with_them():
    """The COLMAP folder of a run of a video, refined elsewhere."""
    run = poses(names=("000000.jpg", "000003.jpg"), source_index=[0, 3], numbered_in="video:1")
    assert pairs(associate(run, poses(names=("000003.jpg",)))) == [(1, 0)]
