"""Recorded frames: stored before they are used, and read back after anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from da3stream.errors import InputError, RunCorruptError
from da3stream.scene import Frame
from da3stream.store import RunRequest, open_run
from da3stream.store.frame_file import decode_frames, encode_frames
from da3stream.store.run import Run

REQUEST = RunRequest(config={}, source="live", input="-", model="m", timestamps_are_synthetic=False)


def frame(index: int) -> Frame:
    rng = np.random.default_rng(index)
    image = np.repeat(rng.integers(0, 256, (4, 6, 3), np.uint8), 4, axis=0)
    return Frame(
        index=index,
        source_index=3 * index,
        timestamp_s=index / 10 + 1 / 3,
        image=image,
        name=None if index % 2 else f"{index}.jpg",
        original_size=(1920, 1080),
    )


def posed(index: int) -> Frame:
    pose = np.eye(4)
    pose[:3, 3] = np.random.default_rng(index).normal(size=3)
    return replace(frame(index), world_from_cam=pose)


def opened(root: Path) -> Run:
    return open_run(root, REQUEST, version="1", resume=True)


def test_what_was_put_comes_back_after_reopening_as_its_jpegs_have_it(tmp_path: Path) -> None:
    run = opened(tmp_path)
    assert run.recording.put([frame(0), frame(1)], ["a"]) == 0
    assert run.recording.put([frame(2)], ["a", "b"]) == 1
    run.close()
    recording = opened(tmp_path).recording
    assert (recording.frames, recording.warnings, recording.has_ended) == (3, ("a", "b"), False)
    frames = [*recording.read(0), *recording.read(1)]
    for index, read in enumerate(frames):
        expected = frame(index)
        for name in ("index", "source_index", "timestamp_s", "name", "original_size"):
            assert getattr(read, name) == getattr(expected, name), name
    np.testing.assert_array_equal(
        np.stack([read.image for read in frames]), decode_frames(encode_frames(map(frame, range(3))))
    )


def test_known_poses_come_back_to_the_last_bit(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.recording.put([posed(0), posed(1)], [])
    with pytest.raises(InputError, match="1 of 2 frames with a known pose"):
        run.recording.put([frame(2), posed(3)], [])
    run.close()
    for index, read in enumerate(opened(tmp_path).recording.read(0)):
        assert read.world_from_cam is not None
        np.testing.assert_array_equal(read.world_from_cam, posed(index).world_from_cam)


def test_the_end_is_remembered(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.recording.put([frame(0)], [])
    run.recording.end(["dropped 3 of 9"])
    run.close()
    recording = opened(tmp_path).recording
    assert recording.has_ended
    assert recording.warnings == ("dropped 3 of 9",)


def test_a_file_without_its_journal_line_does_not_count(tmp_path: Path) -> None:
    """Killed between the two; the next batch takes its place."""
    run = opened(tmp_path)
    run.recording.put([frame(0)], [])
    run.files.write("recorded/000001.zip", encode_frames([frame(1), frame(2)]))
    run.close()
    run = opened(tmp_path)
    assert run.recording.frames == 1
    assert run.recording.put([frame(1)], []) == 1
    assert [read.index for read in run.recording.read(1)] == [1]


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_batch_is_noticed(tmp_path: Path, damage: str) -> None:
    run = opened(tmp_path)
    run.recording.put([frame(0)], [])
    path = tmp_path / "recorded" / "000000.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(
        RunCorruptError,
        match=r"recorded/000000\.zip .* fails its checksum" if damage == "flipped" else "No such file",
    ):
        list(run.recording.read(0))
    assert [batch.number for batch in run.recording.damaged()] == [0]


def test_a_lost_batch_is_left_out_and_said(tmp_path: Path) -> None:
    """Those behind it move up, keep their files, and this survives a journal that goes back."""
    run = opened(tmp_path)
    for first in (0, 2, 4):
        run.recording.put([frame(first), frame(first + 1)], ["a"])
    (tmp_path / "recorded" / "000001.zip").write_bytes(b"")
    (damaged,) = run.recording.damaged()
    run.recording.lose(damaged)
    run.close()
    recording = opened(tmp_path).recording
    assert recording.damaged() == []
    assert recording.frames == 4
    frames = [*recording.read(0), *recording.read(1)]
    assert [read.index for read in frames] == [0, 1, 2, 3]
    assert [read.source_index for read in frames] == [0, 3, 12, 15]
    assert recording.warnings[0] == "a"
    assert "2 recorded frames (0.53 to 0.63 s) are left out: recorded/000001.zip" in recording.warnings[1]


def test_overwriting_and_keeping_nothing_remove_it(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.recording.put([frame(0)], [])
    run.drop_intermediate()
    assert not (tmp_path / "recorded").exists()
    run.recording.put([frame(1)], [])
    run.close()
    run = open_run(tmp_path, REQUEST, version="1", overwrite=True)
    assert run.recording.frames == 0
    assert not (tmp_path / "recorded").exists()
