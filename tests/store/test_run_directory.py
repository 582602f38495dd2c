"""Opening, resuming, locking, overwriting and reading a run directory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from da3stream.errors import RunCorruptError, RunExistsError, RunLockedError, RunMismatchError, StoreError
from da3stream.scene import Chunk, LoopCandidate, LoopClosure, Trajectory
from da3stream.store import RejectedChunk, Run, RunRequest, open_existing, open_run, read_manifest
from da3stream.store.files import SCRATCH
from da3stream.store.journal import JOURNAL
from da3stream.store.opening import LOCK
from da3stream.store.records import ChunkRecord, edge_fields
from da3stream.store.run import MANIFEST, submap_path

from .samples import CHUNKS, IMAGE_SIZE, make_edge, make_frames, make_prediction, put

Opener = Callable[..., Run]


def finish(run: Run) -> None:
    """Give a run its trajectory, an output and the status of a finished one."""
    run.put_trajectory(
        Trajectory(
            index=np.arange(2), timestamp_s=np.zeros(2), world_from_cam=np.zeros((2, 4, 4)),
            intrinsics=np.zeros((2, 3, 3)), submap=np.zeros(2, dtype=np.int64),
        )
    )  # fmt: skip
    output = run.file("pcd/cloud.ply")
    output.stream.write(b"ply")
    output.commit()
    run.write_manifest(status="finished")


def stored(run: Run, chunk: Chunk) -> ChunkRecord | None:
    return run.stored_chunk(make_frames(chunk.context), make_frames(chunk.new))


def contents(root: Path) -> dict[str, bytes]:
    """Path -> bytes of every file but the lock."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != LOCK
    }


# Recording and reading ------------------------------------------------------------------------------------


def test_what_was_put_is_there_after_reopening(opened: Opener) -> None:
    run = opened()
    for index in range(3):
        put(run, index)
    run.end_stream(8, ["a packet was lost"])
    run.file("poses.txt").commit()
    submaps = [run.submap(index) for index in range(3)]

    again = opened(resume=True)
    assert [again.chunks[index].chunk for index in range(3)] == list(CHUNKS)
    assert again.outputs == {"poses.txt"}
    assert again.end_of_stream is not None
    assert (again.end_of_stream.frames, again.end_of_stream.warnings) == (8, ("a packet was lost",))
    assert again.is_complete
    assert not again.is_finished
    for index, submap in enumerate(submaps):
        for name in ("depth", "confidence", "cam_from_submap", "intrinsics", "image_intrinsics"):
            np.testing.assert_array_equal(getattr(again.submap(index), name), getattr(submap, name))


def test_frame_tables_come_back_exactly(opened: Opener) -> None:
    put(opened(), 0)
    table = opened(resume=True).chunks[0].frames
    assert table.source_index.tolist() == [0, 2, 4, 6]
    assert table.timestamp_s.tolist() == [0 / 7, 1 / 7, 2 / 7, 3 / 7]
    assert table.names == ("000000.jpg", "000002.jpg", "000004.jpg", "000006.jpg")
    assert table.original_size.tolist() == [[84, 56]] * 4


def test_edges_come_back_exactly(opened: Opener) -> None:
    put(opened(), 0)
    put(opened(resume=True), 1)
    edge, expected = opened(resume=True).edges[1][0], make_edge(0, 1)
    np.testing.assert_array_equal(edge.a_from_b.matrix(), expected.a_from_b.matrix())
    np.testing.assert_array_equal(edge.information, expected.information)
    assert (edge.a, edge.b, edge.kind) == (0, 1, "overlap")
    assert edge_fields(edge)["evidence"] == expected.evidence


def test_put_chunk_returns_what_a_later_reader_will_see(opened: Opener) -> None:
    run = opened()
    now = run.put_chunk(
        CHUNKS[0], make_frames(CHUNKS[0].new), make_prediction(4), image_size=IMAGE_SIZE, keep_full=False
    )
    later = opened(resume=True).submap(0)
    np.testing.assert_array_equal(now.depth, later.depth)
    np.testing.assert_array_equal(now.confidence, later.confidence)


def test_settled_intrinsics_and_warnings_of_a_chunk_are_remembered(opened: Opener) -> None:
    settled = np.array([[40.0, 0, 21], [0, 41, 14], [0, 0, 1 / 3]])
    prediction = make_prediction(4, settled_intrinsics=settled, warnings=("two frames were interpolated",))
    opened().put_chunk(
        CHUNKS[0], make_frames(CHUNKS[0].new), prediction, image_size=IMAGE_SIZE, keep_full=False
    )
    record = opened(resume=True).chunks[0]
    np.testing.assert_array_equal(record.settled_intrinsics, settled)
    assert record.warnings == ("two frames were interpolated",)


def test_images_cameras_full_depth_and_descriptors_of_a_chunk(opened: Opener) -> None:
    run = opened()
    put(run, 0)
    put(run, 1, keep_full=True)
    run.put_descriptors(1, np.full((2, 5), 0.5, dtype=np.float32))
    assert run.images(1).shape == (2, 28, 42, 3)
    assert run.cameras(1).cam_from_submap.shape == (4, 3, 4)
    assert run.image_intrinsics(1).shape == (4, 3, 3)
    full, descriptors = run.full_depth(1), run.descriptors(1)
    assert full is not None
    np.testing.assert_array_equal(full.depth, make_prediction(4, seed=1).depth[2:])
    assert descriptors is not None
    np.testing.assert_array_equal(descriptors, np.full((2, 5), 0.5))
    assert run.full_depth(0) is None
    assert run.descriptors(0) is None


def test_equal_runs_leave_equal_bytes(tmp_path: Path, request_: RunRequest) -> None:
    for name in ("one", "two"):
        run = open_run(tmp_path / name, request_, version="0")
        for index in range(3):
            put(run, index, keep_full=True)
        run.close()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_chunk_is_recorded_after_its_files(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill before the journal line leaves a chunk that counts as not made."""
    run = opened()
    put(run, 0)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("da3stream.store.journal.Journal.append", killed)
        with pytest.raises(KeyboardInterrupt):
            put(run, 1)
    again = opened(resume=True)
    assert sorted(again.chunks) == [0]
    assert stored(again, CHUNKS[1]) is None
    put(again, 1)
    assert stored(again, CHUNKS[1]) is again.chunks[1]


# Integrity ------------------------------------------------------------------------------------------------


def test_a_stored_chunk_is_recognised_by_its_plan_and_its_pixels(opened: Opener) -> None:
    run = opened()
    put(run, 0)
    assert stored(run, CHUNKS[0]) is run.chunks[0]
    assert stored(run, CHUNKS[1]) is None
    for frames in ((0, 1, 2, 7), (0, 1, 2), (1, 2, 3)):
        with pytest.raises(RunMismatchError, match="other frames than those of chunk 0"):
            run.stored_chunk((), make_frames(frames))
    brighter = [replace(frame, image=frame.image + np.uint8(1)) for frame in make_frames(CHUNKS[0].new)]
    with pytest.raises(RunMismatchError, match="other frames than those of chunk 0"):
        run.stored_chunk((), brighter)


def test_another_chunk_in_its_place_is_noticed(opened: Opener) -> None:
    run = opened()
    put(run, 0)
    run.expect(CHUNKS[0])
    run.expect(CHUNKS[1])
    with pytest.raises(RunMismatchError, match="other frames than those of chunk 0"):
        run.expect(replace(CHUNKS[1], index=0))


@pytest.mark.parametrize("damage", ["flipped", "shorter", "missing"])
@pytest.mark.parametrize(
    "file", ["submaps/000001.safetensors", "frames/000001.zip", "full_depth/000001.safetensors"]
)
def test_a_damaged_file_is_noticed_and_made_anew(opened: Opener, root: Path, file: str, damage: str) -> None:
    run = opened()
    for index in range(3):
        put(run, index, keep_full=True)
    run.end_stream(8, [])
    path = root / file
    good = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(good[:-1] if damage == "shorter" else good[:-1] + bytes([good[-1] ^ 1]))

    again = opened(resume=True)
    assert not again.is_complete
    assert [again.is_intact(again.chunks[index]) for index in range(3)] == [True, False, True]
    assert stored(again, CHUNKS[1]) is None
    with pytest.raises(RunCorruptError, match=file.rsplit("/", maxsplit=1)[-1]):
        again.submap(1), again.images(1), again.full_depth(1)

    put(again, 1, keep_full=True)
    assert path.read_bytes() == good
    assert again.is_intact(again.chunks[1])


def test_a_chunk_that_is_made_anew_takes_its_edges_with_it(opened: Opener) -> None:
    """Its frame and scale are new, so an edge that was measured on the old one would be wrong."""
    run = opened()
    for index in range(3):
        put(run, index)
    run.put_chunk(
        CHUNKS[1],
        make_frames(CHUNKS[1].new),
        make_prediction(4, seed=99),
        image_size=IMAGE_SIZE,
        keep_full=False,
    )
    for same in (run, opened(resume=True)):
        assert {later: sorted(edges) for later, edges in same.edges.items() if edges} == {}
        assert sorted(same.chunks) == [0, 1, 2]


def test_an_unknown_event_is_an_error(opened: Opener) -> None:
    opened()._journal.append("surprise", answer=42)
    with pytest.raises(RunCorruptError, match=r"journal\.jsonl holds the unknown event 'surprise'"):
        opened(resume=True)


def test_a_damaged_journal_goes_back_to_the_damage_and_keeps_what_is_ours(opened: Opener, root: Path) -> None:
    run = opened()
    for index in range(2):
        put(run, index)
    run.file("poses.txt").commit()
    run.close()
    content = bytearray((root / JOURNAL).read_bytes())
    content[content.index(b'{"event":"chunk","index":1') + 12] ^= 1
    (root / JOURNAL).write_bytes(content)
    with pytest.raises(RunCorruptError, match=r"damaged at byte .*da3stream resume"):
        open_existing(root)
    assert (root / JOURNAL).read_bytes() == content, "whoever only reads changes nothing"
    again = opened(resume=True)
    assert (sorted(again.chunks), again.outputs) == ([0], {"poses.txt"})
    put(again, 1)
    assert sorted(opened(resume=True).chunks) == [0, 1]
    assert opened(overwrite=True).chunks == {}
    assert not (root / "poses.txt").exists()


def test_a_finished_run_whose_journal_or_files_are_damaged_is_unfinished(opened: Opener, root: Path) -> None:
    run = opened()
    for index in range(3):
        put(run, index)
    run.end_stream(8, ())
    finish(run)
    run.close()
    whole = contents(root)
    for path in (JOURNAL, submap_path(1), "trajectory.safetensors", MANIFEST):
        damaged = bytearray(whole[path])
        damaged[len(damaged) // 2] ^= 1
        (root / path).write_bytes(damaged)
        assert not opened(resume=True).is_finished, path
        for name, content in whole.items():
            (root / name).write_bytes(content)
    assert opened(resume=True).is_finished


def test_changed_outputs_are_named(opened: Opener, root: Path) -> None:
    run = opened()
    folder = run.folder("colmap")
    for name in ("points3D.bin", "a.jpg"):
        (folder.path / name).write_bytes(b"1")
    folder.commit()
    run.end_stream(0, ())
    finish(run)
    again = opened(resume=True)
    assert again.changed_outputs == []
    assert again.written("colmap") == root / "colmap"
    assert again.written("never.txt") is None
    (root / "colmap" / "points3D.bin").write_bytes(b"2")
    (root / "pcd" / "cloud.ply").unlink()
    again = opened(resume=True)
    assert again.is_finished
    assert again.changed_outputs == ["colmap", "pcd/cloud.ply"]
    assert again.written("colmap") is None
    assert again.written("pcd/cloud.ply") is None


def test_going_back_to_before_a_chunk(opened: Opener, root: Path) -> None:
    run = opened()
    for index in range(3):
        put(run, index)
    run.end_stream(8, ())
    run.file("poses.txt").commit()
    error = run.forget_from(1, "the memory is full")
    assert "chunk 1" in str(error)
    assert f"da3stream resume {root}" in str(error)
    again = opened(resume=True)
    assert (sorted(again.chunks), again.end_of_stream, again.outputs) == ([0], None, {"poses.txt"})


# Opening --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_or_empty_folder_is_a_fresh_start(
    opened: Opener, root: Path, resume: bool, exists: bool
) -> None:
    if exists:
        root.mkdir(parents=True)
    run = opened(resume=resume)
    assert (run.chunks, run.edges, run.is_complete, run.is_finished) == ({}, {}, False, False)
    assert json.loads((root / MANIFEST).read_bytes())["status"] == "running"


def test_a_run_in_use_is_refused_without_resume_or_overwrite(opened: Opener) -> None:
    opened()
    with pytest.raises(RunExistsError, match=r"not empty.*--resume.*--overwrite"):
        opened()


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_a_foreign_folder_is_left_alone(opened: Opener, root: Path, options: dict[str, bool]) -> None:
    root.mkdir(parents=True)
    (root / "thesis.tex").write_text("ten years of work")
    (root / SCRATCH).mkdir()
    (root / SCRATCH / "draft").write_text("more of it")
    with pytest.raises(RunExistsError, match="not empty"):
        opened(**options)
    assert sorted(contents(root)) == [f"{SCRATCH}/draft", "thesis.tex"]
    assert not (root / LOCK).exists()


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_a_folder_that_happens_to_be_called_scratch_is_foreign_too(
    opened: Opener, root: Path, options: dict[str, bool]
) -> None:
    (root / SCRATCH).mkdir(parents=True)
    (root / SCRATCH / "draft").write_text("ten years of work")
    with pytest.raises(RunExistsError, match="not empty"):
        opened(**options)
    assert (root / SCRATCH / "draft").exists()


@pytest.mark.parametrize("options", [{}, {"resume": True}])
def test_a_run_killed_before_its_manifest_starts_afresh(
    opened: Opener, root: Path, options: dict[str, bool]
) -> None:
    (root / SCRATCH).mkdir(parents=True)
    (root / SCRATCH / "0123-run.json").write_text("{")
    (root / LOCK).touch()
    assert opened(**options).chunks == {}
    assert sorted(contents(root)) == [JOURNAL, MANIFEST]


def test_a_file_is_no_run_directory(opened: Opener, root: Path) -> None:
    root.parent.mkdir()
    root.write_text("a file")
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(RunExistsError, match="is a file"):
            opened(**options)


def test_a_place_that_cannot_be_written_is_a_known_error(tmp_path: Path, request_: RunRequest) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="file is a file"):
        open_run(tmp_path / "file" / "run", request_, version="0")


def test_opening_cleans_what_a_killed_process_left(opened: Opener, root: Path) -> None:
    opened().close()
    in_another_process("run = open_existing(root); run.file('poses.txt'); os._exit(9)", root, expect=9)
    assert len(list((root / SCRATCH).iterdir())) == 1
    again = opened(resume=True)
    assert not (root / SCRATCH).exists()
    assert again.outputs == {"poses.txt"}


def test_closing_cleans_and_may_be_repeated(opened: Opener, root: Path) -> None:
    run = opened()
    run.file("poses.txt")
    run.close()
    run.close()
    assert not (root / SCRATCH).exists()


def in_another_process(code: str, root: Path, *, expect: int) -> None:
    """Run a line of code on a run directory."""
    imports = (
        "import os, sys; from pathlib import Path; from da3stream.errors import RunLockedError; "
        "from da3stream.store import open_existing; root = Path(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", f"{imports}\n{code}", str(root)], check=False, timeout=60)
    assert done.returncode == expect


# Locks ----------------------------------------------------------------------------------------------------


def test_a_second_run_in_the_same_process_is_refused(
    opened: Opener, root: Path, request_: RunRequest
) -> None:
    opened()
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(RunLockedError, match="another process works on"):
            open_run(root, request_, version="0", **options)
    with pytest.raises(RunLockedError):
        open_existing(root)


def test_a_second_process_is_refused_and_changes_nothing(opened: Opener, root: Path) -> None:
    run = opened()
    put(run, 0)
    run.file("poses.txt").stream.write(b"half")
    before = contents(root)
    in_another_process("try: open_existing(root)\nexcept RunLockedError: sys.exit(7)", root, expect=7)
    assert contents(root) == before


def test_a_refused_opening_releases_the_lock(opened: Opener, request_: RunRequest) -> None:
    opened()
    with pytest.raises(RunMismatchError):
        opened(replace(request_, model="other"), resume=True)
    opened(resume=True)


# Resuming what was made of something else -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"config": {"chunk_size": 8, "fps": None, "export": ["poses"]}}, r"chunk_size \(was 4, now 8\)"),
        ({"config": {"chunk_size": 4, "fps": 2.0, "export": ["poses"]}}, r"fps \(was None, now 2.0\)"),
        (
            {"config": {"chunk_size": 4, "fps": None, "export": ["tum"]}},
            r"export \(was \['poses'\], now \['tum'\]\)",
        ),
        (
            {"config": {"chunk_size": 4, "fps": None, "export": ["poses"], "new": 1}},
            r"new \(was None, now 1\)",
        ),
        ({"place": "vlad"}, r"place descriptor \(was 'none', now 'vlad'\)"),
        ({"model": "simulated"}, "model \\(was 'classical', now 'simulated'\\)"),
        ({"source": "clip:2"}, "the input or which of its frames"),
    ],
)
def test_other_settings_are_refused_and_named(
    opened: Opener, root: Path, request_: RunRequest, changes: dict[str, Any], complaint: str
) -> None:
    opened()
    before = contents(root)
    with pytest.raises(RunMismatchError, match=complaint) as caught:
        opened(replace(request_, **changes), resume=True)
    assert str(caught.value).count("(was") <= 1
    assert contents(root) == before


def test_all_differences_are_named_at_once(opened: Opener, request_: RunRequest) -> None:
    opened()
    other = replace(request_, config={"chunk_size": 9}, model="m", source="s")
    with pytest.raises(RunMismatchError, match=r"chunk_size.*export.*model.*the input"):
        opened(other, resume=True)


def test_the_way_to_the_input_may_change(opened: Opener, request_: RunRequest) -> None:
    """The same video at another path has the same identity."""
    put(opened(), 0)
    assert sorted(opened(replace(request_, input="/elsewhere/clip.mp4"), resume=True).chunks) == [0]


# Overwriting ----------------------------------------------------------------------------------------------


def test_overwriting_removes_what_is_ours_and_nothing_else(opened: Opener, root: Path) -> None:
    run = opened()
    put(run, 0, keep_full=True)
    run.put_vocabulary(np.ones((3, 2), dtype=np.float32), None)
    run.put_descriptors(0, np.zeros((4, 2), dtype=np.float32))
    folder = run.folder("colmap")
    (folder.path / "cameras.bin").write_bytes(b"1")
    folder.commit()
    finish(run)
    (root / "notes.txt").write_text("mine")
    (root / "pcd" / "cleaned.ply").write_text("mine too")

    fresh = opened(overwrite=True)
    assert sorted(contents(root)) == [JOURNAL, "notes.txt", "pcd/cleaned.ply", MANIFEST]
    assert (fresh.chunks, fresh.outputs, fresh.is_finished) == ({}, set(), False)


def test_overwriting_takes_other_settings(opened: Opener, root: Path, request_: RunRequest) -> None:
    opened()
    opened(replace(request_, model="other", config={}), overwrite=True)
    assert read_manifest(root)["model"] == "other"


def test_overwriting_nothing_is_a_fresh_start(opened: Opener) -> None:
    assert opened(overwrite=True).chunks == {}


@pytest.mark.parametrize("damage", ["cut", "changed", "lost"])
def test_a_damaged_manifest_is_made_again_from_the_journal(opened: Opener, root: Path, damage: str) -> None:
    run = opened()
    put(run, 0)
    before = run.manifest
    run.close()
    if damage == "lost":
        (root / MANIFEST).unlink()
    else:
        content = (root / MANIFEST).read_bytes()
        changed = content.replace(b"clip:1", b"clip:2")
        (root / MANIFEST).write_bytes(content[:40] if damage == "cut" else changed)
    assert read_manifest(root) == before
    again = opened(resume=True)
    assert (sorted(again.chunks), again.manifest) == ([0], before)
    assert opened(overwrite=True).chunks == {}


def test_manifest_and_journal_both_damaged_is_an_error_that_says_what_to_do(
    opened: Opener, root: Path
) -> None:
    put(opened(), 0)
    before = contents(root)
    (root / MANIFEST).write_text("{")
    (root / JOURNAL).write_bytes(bytes(100))
    with pytest.raises(RunCorruptError, match=r"run\.json cannot be read.*--overwrite"):
        opened(resume=True)
    assert contents(root)[submap_path(0)] == before[submap_path(0)], "nothing is removed"
    assert opened(overwrite=True).chunks == {}


@pytest.mark.parametrize("step", range(9))
def test_overwriting_may_be_killed_at_any_removal(
    opened: Opener, root: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whatever is left can be resumed, as a run that has something to make again, or overwritten."""
    run = opened()
    for index in range(3):
        put(run, index)
    run.end_stream(8, [])
    finish(run)
    (root / "notes.txt").write_text("mine")
    countdown = iter(range(step, -1, -1))

    from da3stream.store.files import RunFiles

    remove = RunFiles.remove

    def remove_or_die(self: RunFiles, path: str) -> None:
        if path != SCRATCH and next(countdown, 0) == 0:
            raise KeyboardInterrupt
        remove(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, "remove", remove_or_die)
        try:
            opened(overwrite=True)
        except KeyboardInterrupt:
            assert step < 9
    again = opened(resume=True)
    assert not again.is_finished or len(again.trajectory()) == 2
    assert opened(overwrite=True).chunks == {}
    assert sorted(contents(root)) == [JOURNAL, "notes.txt", MANIFEST]


def test_overwriting_may_be_killed_before_the_new_manifest(
    opened: Opener, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old manifest says `finished`, but nothing of that is left."""
    finish(opened())
    (root / "notes.txt").write_text("mine")

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(overwrite=True)
    again = opened(resume=True)
    assert (again.chunks, again.outputs, again.is_finished) == ({}, set(), False)


# Finished runs --------------------------------------------------------------------------------------------


def test_a_finished_run_knows_its_trajectory(opened: Opener) -> None:
    run = opened()
    run.end_stream(0, ())
    finish(run)
    run = opened(resume=True)
    assert run.is_finished
    assert len(run.trajectory()) == 2


def test_an_existing_run_is_opened_as_it_is(opened: Opener, root: Path) -> None:
    run = opened()
    put(run, 0)
    finish(run)
    run.close()
    existing = open_existing(root)
    assert (sorted(existing.chunks), existing.outputs) == ([0], {"pcd/cloud.ply"})
    existing.close()


def test_keeping_nothing_leaves_the_outputs(opened: Opener, root: Path, request_: RunRequest) -> None:
    request = replace(request_, config={**request_.config, "keep": "none"})
    run = opened(request)
    put(run, 0, keep_full=True)
    run.put_vocabulary(np.ones((3, 2), dtype=np.float32), None)
    run.put_descriptors(0, np.zeros((4, 2), dtype=np.float32))
    finish(run)
    run.drop_intermediate()
    assert sorted(contents(root)) == [JOURNAL, "pcd/cloud.ply", MANIFEST, "trajectory.safetensors"]
    assert opened(request, resume=True).is_finished


def test_an_output_is_announced_before_it_appears(opened: Opener, root: Path) -> None:
    """Otherwise a kill in between would leave a file that --overwrite takes for foreign."""
    run = opened()
    pending = run.file("poses.txt")
    assert b"poses.txt" in (root / JOURNAL).read_bytes()
    pending.abort()
    run.file("poses.txt").abort()
    assert (root / JOURNAL).read_bytes().count(b"poses.txt") == 1


@pytest.mark.parametrize("path", ["../evil", "/evil"])
def test_outputs_may_not_leave_the_run(opened: Opener, path: str) -> None:
    with pytest.raises(StoreError, match="no path inside"):
        opened().file(path)


# The manifest ---------------------------------------------------------------------------------------------


def test_the_manifest_says_what_was_asked(opened: Opener, root: Path, request_: RunRequest) -> None:
    run = opened()
    run.write_manifest(frames=12)
    manifest = read_manifest(root)
    assert manifest["config"] == request_.config
    assert (manifest["model"], manifest["source"], manifest["input"]) == ("classical", "clip:1", "clip.mp4")
    assert (manifest["status"], manifest["frames"]) == ("running", 12)


@pytest.mark.parametrize(
    ("content", "error", "complaint"),
    [
        (b"", RunCorruptError, "cannot be read"),
        (b"{", RunCorruptError, "cannot be read"),
        (b"\xff\xfe", RunCorruptError, "cannot be read"),
        (b"[]", RunCorruptError, "no manifest of a run"),
        (b"null", RunCorruptError, "no manifest of a run"),
        (b'{"format": "other", "version": 1}', RunCorruptError, "no manifest of a run"),
        (
            b'{"format": "da3stream run", "version": 1}',
            RunCorruptError,
            "has lost config, input, model, source, status",
        ),
        (
            b'{"format": "da3stream run", "version": 99, "config": {}}',
            RunMismatchError,
            "format 99.*format 1",
        ),
    ],
)
def test_garbage_for_a_manifest_is_an_error(
    tmp_path: Path, content: bytes, error: Any, complaint: str
) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(error, match=complaint):
        read_manifest(tmp_path)


@pytest.mark.parametrize("kind", ["missing", "empty", "folder"])
def test_no_manifest_means_no_run_directory(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "run"
    if kind != "missing":
        root.mkdir()
    if kind == "folder":
        (root / MANIFEST).mkdir()
    for read in (read_manifest, open_existing):
        with pytest.raises(StoreError, match="is no run directory"):
            read(root)
    assert not (root / LOCK).exists()


def test_the_files_of_a_chunk_have_the_names_that_the_design_gives(opened: Opener, root: Path) -> None:
    put(opened(), 0)
    assert submap_path(42) == "submaps/000042.safetensors"
    assert sorted(contents(root)) == ["frames/000000.zip", JOURNAL, MANIFEST, "submaps/000000.safetensors"]


LOOP = LoopClosure(
    candidate=LoopCandidate(later=7, earlier=1, similarity=0.61, threshold=0.4, support=2),
    chunk=None,
    reason="the places do not overlap",
    evidence={"coverage": 0.01},
)


def test_a_chunk_without_new_frames_is_a_submap_and_nothing_else(opened: Opener, root: Path) -> None:
    run = opened()
    for index in range(3):
        put(run, index)
    bridge = Chunk(index=3, scale=2, context=(0, 2, 4, 6), new=())
    stored = run.put_chunk(bridge, (), make_prediction(4, seed=9), image_size=IMAGE_SIZE, keep_full=True)
    run.put_edges(3, [make_edge(0, 3), make_edge(2, 3)])
    again = opened(resume=True)
    assert again.chunks[3].chunk == bridge
    assert list(again.chunks[3].files) == ["submaps/000003.safetensors"]
    assert sorted(again.edges[3]) == [0, 2]
    assert [record.chunk.index for record in again.fine_chunks] == [0, 1, 2]
    np.testing.assert_array_equal(again.submap(3).depth, stored.depth)


def test_a_preview_is_what_would_be_stored(opened: Opener) -> None:
    run = opened()
    put(run, 0)
    bridge, prediction = Chunk(index=1, scale=2, context=(0, 2), new=()), make_prediction(2, seed=4)
    preview = run.preview(bridge, prediction, IMAGE_SIZE)
    stored = run.put_chunk(bridge, (), prediction, image_size=IMAGE_SIZE, keep_full=False)
    np.testing.assert_array_equal(preview.depth, stored.depth)
    np.testing.assert_array_equal(preview.confidence, stored.confidence)


def test_stored_images_of_any_frames_come_in_the_order_asked_for(opened: Opener) -> None:
    run = opened()
    for index in range(3):
        put(run, index)
    images = run.images_of([6, 1, 4, 0])
    np.testing.assert_array_equal(images[0], run.images(2)[0])
    np.testing.assert_array_equal(images[[1, 3]], run.images(0)[[1, 0]])
    np.testing.assert_array_equal(images[2], run.images(1)[0])
    assert [run.owner(frame).chunk.index for frame in (0, 3, 4, 7)] == [0, 0, 1, 2]
    with pytest.raises(KeyError):
        run.images_of([8])


def test_loops_and_chunks_made_in_vain_are_remembered(opened: Opener) -> None:
    run = opened()
    put(run, 0)
    run.put_loop(LOOP)
    run.put_rejected(RejectedChunk(scale=8, frames=(0, 8, 16), reason="too far apart"))
    again = opened(resume=True)
    assert again.loops[7, 1].candidate == LOOP.candidate
    assert (again.loops[7, 1].chunk, again.loops[7, 1].reason) == (None, LOOP.reason)
    assert dict(again.loops[7, 1].evidence) == {"coverage": 0.01}
    assert again.rejected[0, 8, 16] == RejectedChunk(scale=8, frames=(0, 8, 16), reason="too far apart")


def test_the_end_is_forgotten_when_a_chunk_is_made_anew(opened: Opener) -> None:
    """What follows from the chunk, loops for instance, is looked at again."""
    run = opened()
    for index in range(3):
        put(run, index)
    run.end_stream(8, ())
    assert opened(resume=True).is_complete
    again = opened(resume=True)
    put(again, 1)
    assert not again.is_complete
    assert not opened(resume=True).is_complete
