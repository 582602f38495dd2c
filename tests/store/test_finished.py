"""A finished run as the viewer reads it: the same as with all records, in far less memory."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import da3stream
from da3stream.errors import RunCorruptError, RunIncompleteError
from da3stream.scene import LoopCandidate, LoopClosure, Trajectory
from da3stream.store import FinishedRun, FollowedRun, open_existing
from da3stream.store.files import RunFiles
from da3stream.store.journal import JOURNAL, Journal
from da3stream.store.manifest import encode_manifest
from da3stream.store.run import TRAJECTORY, submap_path
from da3stream.store.trajectory_file import encode_trajectory
from da3stream.synthetic.capture import SimulatedEstimator, SimulatedSource, SimulatedWorld
from da3stream.synthetic.paths import street_laps
from da3stream.viewing.map_state import first_state_of

FRAMES = 70


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with coarse chunks, and a closed and a rejected loop. Leave it as it is."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    world = SimulatedWorld(street_laps(FRAMES), seed=7, size=(14, 42), hfov_deg=82)
    da3stream.reconstruct(
        SimulatedSource(world),
        folder,
        estimator=SimulatedEstimator(world, seed=3, level=1.0),
        config=da3stream.load_config(
            None, {"chunk_size": 16, "overlap": 8, "coarse": 4, "place": "none", "export": "poses"}
        ),
    )
    run = open_existing(folder)
    for later, reason in ((60, None), (66, "the places do not overlap")):
        candidate = LoopCandidate(later=later, earlier=2, similarity=0.6, threshold=0.4, support=2)
        run.put_loop(LoopClosure(candidate=candidate, chunk=None if reason else 3, reason=reason))
    run.close()
    return folder


def test_it_says_what_the_records_say(folder: Path) -> None:
    finished, followed = FinishedRun(folder), FollowedRun(folder)
    assert finished.typical_confidence == followed.typical_confidence
    assert finished.closed_loops == followed.closed_loops == [(60, 2)]
    for frame in range(FRAMES):
        ours, theirs = finished.maps_of(frame), followed.maps_of(frame)
        for field in fields(ours):
            np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name))
        np.testing.assert_array_equal(finished.image_of(frame), followed.image_of(frame))
    for record in followed.fine_chunks:
        cameras = followed.cameras(record.chunk.index)
        own, typical_depth = finished.own_cameras(record.chunk.index)
        np.testing.assert_array_equal(own, cameras.cam_from_submap[len(record.chunk.context) :])
        assert typical_depth == cameras.typical_depth
    for outside in (-1, FRAMES):
        with pytest.raises(KeyError):
            finished.maps_of(outside)


def test_only_a_finished_run_is_one(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    finished = FinishedRun(tmp_path / "run")
    assert not finished.is_outdated()
    (tmp_path / "run" / "run.json").write_bytes(encode_manifest({**finished.manifest, "status": "running"}))
    assert finished.is_outdated()
    with pytest.raises(RunIncompleteError, match="has not finished"):
        FinishedRun(tmp_path / "run")


def test_a_damaged_chunk_line_is_said(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    journal = tmp_path / "run" / JOURNAL
    journal.write_bytes(journal.read_bytes().replace(b'"typical_confidence":', b'"typical_confidence": '))
    with pytest.raises(RunCorruptError, match="is damaged"):
        FinishedRun(tmp_path / "run")


def repeated(folder: Path, times: int, target: Path) -> Path:
    """A run that is the one in the folder so many times over: as long a journal, and its submaps."""
    run, files = FollowedRun(folder), RunFiles(folder)
    chunks, trajectory = len(run.chunks), run.trajectory()
    (target / "submaps").mkdir(parents=True)
    shutil.copy(folder / "run.json", target)
    events = list(Journal(files).read())
    with (target / JOURNAL).open("wb") as journal:
        for number in range(times):
            for index in range(chunks):
                (target / submap_path(number * chunks + index)).hardlink_to(folder / submap_path(index))
            for event in events:
                journal.write(_line(_moved(event, number * FRAMES, number * chunks)))
    fields_of = {
        field.name: np.concatenate([getattr(trajectory, field.name)] * times) for field in fields(trajectory)
    }
    shifts = np.repeat(np.arange(times), FRAMES)
    long = replace(Trajectory(**fields_of), submap=fields_of["submap"] + shifts * chunks)
    (target / TRAJECTORY).write_bytes(encode_trajectory(long))
    return target


def _moved(event: Any, frames: int, chunks: int) -> dict[str, Any]:
    """An event of later frames and chunks."""
    moved = dict(event)
    for name in ("context", "new"):
        if event["event"] == "chunk":
            moved[name] = [frame + frames for frame in event[name]]
    by = {"index": chunks, "chunk": chunks, "later": frames, "earlier": frames}
    for name in by.keys() & event.keys():
        moved[name] = None if event[name] is None else event[name] + by[name]
    return moved


def _line(event: dict[str, Any]) -> bytes:
    name = {"event": event.pop("event")}
    payload = json.dumps({**name, **event}, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def bytes_held(make: Callable[[], object]) -> tuple[int, int]:
    """What something takes of memory, and took at most while it was made."""
    make()  # what is only done once
    tracemalloc.start()
    made = make()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del made
    return held, peak


def test_memory_grows_by_little_more_than_the_cameras(folder: Path, tmp_path: Path) -> None:
    """A frame's camera takes 120 bytes, and all records of this run, with its short chunks, some 1000."""
    short, long = (repeated(folder, times, tmp_path / str(times)) for times in (3, 30))
    frames = 27 * FRAMES

    def shown(root: Path) -> object:
        run = FinishedRun(root)
        return run, first_state_of(run)

    held, peak = np.subtract(bytes_held(lambda: shown(long)), bytes_held(lambda: shown(short))) / frames
    assert 120 <= held < 160
    assert peak < 500
    records, _ = (
        np.subtract(bytes_held(lambda: FollowedRun(long)), bytes_held(lambda: FollowedRun(short))) / frames
    )
    assert records > 5 * held
