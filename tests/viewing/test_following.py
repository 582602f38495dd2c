"""A run directory that is read while it grows."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from da3stream.errors import StoreError
from da3stream.pipeline import align
from da3stream.store import FinishedRun, FollowedRun, open_existing, read_manifest
from da3stream.store.files import RunFiles
from da3stream.store.journal import JOURNAL
from da3stream.viewing.following import GrowingMap
from da3stream.viewing.map_state import MapState, first_state_of
from da3stream.viewing.replay import replayed


class Writer:
    """Writes a copy of a finished run again, journal line by journal line."""

    def __init__(self, finished: Path, folder: Path) -> None:
        shutil.copytree(finished, folder)
        self.folder = folder
        self._lines = (finished / JOURNAL).read_bytes().splitlines(keepends=True)
        self._manifest = (folder / "run.json").read_bytes()
        (folder / JOURNAL).write_bytes(self._lines.pop(0))
        (folder / "run.json").unlink()  # the first line of the journal says what the run began as
        self._lock: int | None = None
        self.begin_again()

    def write(self, lines: int) -> None:
        """The next lines, and half of the one after them, which a reader meets if it comes at that moment."""
        with (self.folder / JOURNAL).open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
            file.seek(0, 2)
            file.write(b"".join(self._lines[:lines]))
            self._lines = self._lines[lines:]
            if self._lines:
                file.write(self._lines[0][: len(self._lines[0]) // 2])

    def finish(self) -> None:
        """All that is left."""
        self.write(len(self._lines))
        (self.folder / "run.json").write_bytes(self._manifest)
        self.stop()

    def begin_again(self) -> None:
        """Hold the run directory, as a process does that writes it."""
        self._lock = RunFiles(self.folder).lock()

    def stop(self) -> None:
        """Let go of the run directory, as a process that ends does."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    @property
    def is_done(self) -> bool:
        """Whether all lines are written."""
        return not self._lines


@pytest.fixture
def writer(viewed: Path, tmp_path: Path) -> Writer:
    return Writer(viewed, tmp_path / "growing")


def test_a_growing_run_ends_in_its_trajectory(writer: Writer) -> None:
    growing = GrowingMap(FollowedRun(writer.folder))
    assert growing.update() is None
    states: list[MapState] = []
    while not writer.is_done:
        writer.write(2)
        if (state := growing.update()) is not None:
            states.append(state)
    lengths = [len(state) for state in states]
    assert len(lengths) > 4
    assert lengths == sorted(lengths)
    assert not growing.is_finished
    writer.finish()
    last = growing.update()
    assert last is not None
    assert growing.is_finished
    final = open_existing(writer.folder)
    np.testing.assert_allclose(last.world_from_cam, final.trajectory().world_from_cam[:, :3], atol=1e-9)
    final.close()
    assert growing.update() is None


def test_reading_changes_nothing_and_needs_no_lock(viewed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(viewed, folder)
    with (folder / JOURNAL).open("ab") as file:
        file.write(b"0000 half of a li")
    content = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    run = FollowedRun(folder)
    assert run.trajectory() is not None
    assert not run.catch_up()
    with pytest.raises(StoreError, match="read only"):
        run.write_manifest(status="running")
    with pytest.raises(StoreError, match="read only"):
        run.put_alignment(None)
    run.close()
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == content
    locked = open_existing(folder)
    assert len(FollowedRun(folder).chunks) == len(locked.chunks)
    locked.close()


def test_a_run_that_is_begun_anew_is_noticed(writer: Writer) -> None:
    writer.write(6)
    run = FollowedRun(writer.folder)
    journal = writer.folder / JOURNAL
    shutil.copy(journal, writer.folder / "other")
    (writer.folder / "other").replace(journal)
    with pytest.raises(StoreError, match="begun anew"):
        run.catch_up()


def test_one_frame_alone_is_what_the_whole_submap_says(run: FollowedRun) -> None:
    for frame in (0, 17, 69):
        record = run.owner(frame)
        submap, row = run.submap(record.chunk.index), record.chunk.frames.index(frame)
        maps = run.maps_of(frame)
        np.testing.assert_array_equal(maps.depth, submap.depth[row])
        np.testing.assert_array_equal(maps.confidence, submap.confidence[row])
        np.testing.assert_array_equal(maps.intrinsics, submap.intrinsics[row])
        own = record.chunk.new.index(frame)
        np.testing.assert_array_equal(run.image_of(frame), run.images(record.chunk.index)[own])
    with pytest.raises(KeyError):
        run.image_of(70)


def test_a_finished_run_that_is_aligned_later_is_read_in_its_new_frame(viewed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(viewed, folder)
    before = first_state_of(FinishedRun(folder))
    align(folder, scale=3.0)
    assert read_manifest(folder)["is_metric"]
    first = first_state_of(FinishedRun(folder))
    for state in (first, replayed(folder, first, threading.Event())):
        assert state.length == pytest.approx(3 * before.length)
        np.testing.assert_allclose(state.depth_scale, 3 * before.depth_scale, rtol=0.05)
