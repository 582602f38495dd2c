"""Which of the known poses belongs to a frame, and files that are no poses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream import Frame, load_config
from da3stream.errors import FormatError, InputError, InputNotFoundError
from da3stream.evaluation import PoseSequence
from da3stream.known_poses import KnownPoses

from .evaluation.conftest import walk

POSES = walk(12, seed=4)


def frame(source_index: int, time_s: float = 0.0, name: str | None = None) -> Frame:
    image = np.zeros((14, 14, 3), np.uint8)
    return Frame(index=0, source_index=source_index, timestamp_s=time_s, image=image, name=name)


def test_rows_are_positions_in_the_source() -> None:
    known = KnownPoses(PoseSequence(world_from_cam=POSES))
    np.testing.assert_allclose(known.of(frame(7)), POSES[7], atol=1e-12)
    with pytest.raises(InputError, match=r"no pose for frame 12 of the source; got 12 poses"):
        known.of(frame(12))


def test_a_pose_at_the_moment_is_taken_as_it_is() -> None:
    times = 1.3e9 + np.arange(12) / 10
    known = KnownPoses(PoseSequence(world_from_cam=POSES, timestamp_s=times), offset_s=1.3e9)
    for time_s in (0.5, 0.5004, 0.4996):
        np.testing.assert_array_equal(known.of(frame(0, time_s))[:3, 3], POSES[5, :3, 3])


def test_a_constant_motion_is_interpolated_exactly() -> None:
    turn = np.array([0.2, -0.4, 0.1])

    def at(time_s: float) -> np.ndarray:
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_rotvec(time_s * turn).as_matrix()
        pose[:3, 3] = time_s * np.array([3.0, -1.0, 2.0])
        return pose

    times = np.arange(10) * 0.2
    known = KnownPoses(PoseSequence(world_from_cam=np.stack([at(t) for t in times]), timestamp_s=times))
    for time_s in (0.05, 0.77, 1.79):
        np.testing.assert_allclose(known.of(frame(0, time_s)), at(time_s), atol=1e-12)


@pytest.mark.parametrize("time_s", [-0.01, 1.2, 0.75])
def test_nothing_is_made_up_outside_or_in_gaps(time_s: float) -> None:
    times = np.arange(12) / 10
    kept = (times < 0.55) | (times > 0.85)  # a gap of 0.4 s
    known = KnownPoses(PoseSequence(world_from_cam=POSES[kept], timestamp_s=times[kept]))
    with pytest.raises(InputError, match=rf"no pose for frame 3 at {time_s:.6f} s; .* --pose-offset"):
        known.of(frame(3, time_s))


def test_times_that_are_made_up_have_to_be_equal() -> None:
    poses = PoseSequence(world_from_cam=POSES, timestamp_s=np.arange(12) / 10)
    known = KnownPoses(poses, exact_times=True)
    np.testing.assert_allclose(known.of(frame(1, 1.0)), POSES[10], atol=1e-12)
    with pytest.raises(InputError, match="give --fps"):
        known.of(frame(1, 0.55))


@pytest.mark.parametrize(
    ("pose_name", "image_name"),
    [("a.jpg", "a.jpg"), ("images/a.jpg", "a.jpg"), ("images/a", "a.jpg"), ("a.png", "a.jpg")],
)
def test_names_agree_without_folder_and_suffix(pose_name: str, image_name: str) -> None:
    known = KnownPoses(PoseSequence(world_from_cam=POSES[:2], names=(pose_name, "b.jpg")))
    np.testing.assert_allclose(known.of(frame(5, name=image_name)), POSES[0], atol=1e-12)
    with pytest.raises(InputError, match=r"no pose for image c\.jpg; got poses of"):
        known.of(frame(0, name="c.jpg"))


def test_names_that_differ_by_their_folder_only_are_refused() -> None:
    with pytest.raises(FormatError, match="several poses for one file name"):
        KnownPoses(PoseSequence(world_from_cam=POSES[:2], names=("left/1.jpg", "right/1.jpg")))


def test_the_identity_follows_poses_times_and_offset() -> None:
    times = np.arange(12) / 10
    moved = POSES.copy()
    moved[3, 1, 3] += 1e-9
    same = [KnownPoses(PoseSequence(world_from_cam=POSES, timestamp_s=times)).identity() for _ in range(2)]
    others = [
        KnownPoses(PoseSequence(world_from_cam=moved, timestamp_s=times)).identity(),
        KnownPoses(PoseSequence(world_from_cam=POSES, timestamp_s=times + 1)).identity(),
        KnownPoses(PoseSequence(world_from_cam=POSES, timestamp_s=times), offset_s=1).identity(),
        KnownPoses(PoseSequence(world_from_cam=POSES)).identity(),
    ]
    assert same[0] == same[1]
    assert len({same[0], *others}) == 5


def test_the_caller_s_poses_stay_as_they_are() -> None:
    rough = POSES.round(4)
    before = rough.copy()
    known = KnownPoses(PoseSequence(world_from_cam=rough))
    rotation = known.of(frame(3))[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)
    np.testing.assert_array_equal(rough, before)
    np.testing.assert_array_equal(known.of(frame(3))[:3, 3], rough[3, :3, 3])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("poses.txt", "", "0 columns"),
        ("poses.txt", "1 2 3\n", "3 columns"),
        ("poses.txt", "0 1 2 3 0 0 0 2\n", "poses.txt:1: not a unit quaternion"),
        ("poses.txt", "1 1 2 3 0 0 0 1\n0 1 2 3 0 0 0 1\n", "timestamps are not ascending"),
        ("poses.txt", "1 0 0 0 0 1 0 0 0 0 one 0\n", "poses.txt:1: not a number"),
        ("poses.txt", "1 0 0 0 0 2 0 0 0 0 1 0\n", "the matrix holds no rotation"),
        ("transforms.json", "{", "cannot read .* as JSON"),
        ("transforms.json", json.dumps({"frames": []}), "no list of frames"),
        ("images.bin", "no model", "pycolmap cannot read the model"),
    ],
)
def test_malformed_files_give_one_clear_line(tmp_path: Path, name: str, content: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(FormatError, match=words) as caught:
        KnownPoses.load(tmp_path if name == "images.bin" else path, load_config())
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match="there is no trajectory"):
        KnownPoses.load(tmp_path / "none.txt", load_config())
