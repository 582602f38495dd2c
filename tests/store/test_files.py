"""Files appear whole or not at all, and never outside the run directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from da3stream.errors import RunCorruptError, StoreError
from da3stream.store.files import SCRATCH, RunFiles


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path)


def visible(files: RunFiles) -> list[str]:
    """Everything outside the scratch folder."""
    paths = (path.relative_to(files.root) for path in files.root.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if path.parts[0] != SCRATCH)


def scratch(files: RunFiles) -> list[str]:
    return sorted(path.name for path in files.root.glob(f"{SCRATCH}/*"))


def test_a_written_file_is_read_back_and_leaves_no_scratch(files: RunFiles) -> None:
    files.write("pcd/deep/cloud.ply", b"points")
    assert files.read("pcd/deep/cloud.ply") == b"points"
    assert files.exists("pcd/deep/cloud.ply")
    assert visible(files) == ["pcd/deep/cloud.ply"]
    assert scratch(files) == []


def test_nothing_is_visible_before_the_commit(files: RunFiles) -> None:
    pending = files.file("poses.txt")
    pending.stream.write(b"1 0 0")
    pending.stream.flush()
    assert visible(files) == []
    pending.commit()
    assert visible(files) == ["poses.txt"]
    assert files.read("poses.txt") == b"1 0 0"


def test_the_older_file_stays_until_the_commit(files: RunFiles) -> None:
    files.write("poses.txt", b"old")
    pending = files.file("poses.txt")
    pending.stream.write(b"new")
    assert files.read("poses.txt") == b"old"
    pending.commit()
    assert files.read("poses.txt") == b"new"


def test_an_aborted_file_leaves_nothing_and_may_be_aborted_again(files: RunFiles) -> None:
    files.write("poses.txt", b"old")
    pending = files.file("poses.txt")
    pending.stream.write(b"new")
    pending.abort()
    pending.abort()
    assert files.read("poses.txt") == b"old"
    assert scratch(files) == []


def test_abort_after_commit_keeps_the_file(files: RunFiles) -> None:
    pending = files.file("poses.txt")
    pending.commit()
    pending.abort()
    assert visible(files) == ["poses.txt"]


def test_a_stream_can_go_back_to_fill_in_its_header(files: RunFiles) -> None:
    pending = files.file("cloud.ply")
    pending.stream.write(b"????points")
    pending.stream.seek(0)
    pending.stream.write(b"head")
    pending.commit()
    assert files.read("cloud.ply") == b"headpoints"


def test_a_crash_before_the_rename_leaves_scratch_only(
    files: RunFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    pending = files.file("poses.txt")
    pending.stream.write(b"1 0 0")
    with pytest.raises(KeyboardInterrupt):
        pending.commit()
    assert visible(files) == []
    assert len(scratch(files)) == 1
    RunFiles(files.root).clean_scratch()
    assert list(files.root.iterdir()) == []


def test_files_are_on_the_disk_before_they_get_their_name(
    files: RunFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that survives a power cut: content, then name, then the folder that holds the name."""
    happened: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor: int) -> None:
        happened.append("folder" if os.path.isdir(f"/dev/fd/{descriptor}") else "file")
        fsync(descriptor)

    def spy_replace(source: Path, target: Path) -> None:
        happened.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    files.write("a", b"content")
    assert happened == ["file", "rename", "folder"]
    happened.clear()
    files.append("log", b"line\n")
    files.append("log", b"line\n")
    assert happened == ["file", "folder", "file"]


def test_a_folder_appears_whole(files: RunFiles) -> None:
    pending = files.folder("colmap/sparse/0")
    (pending.path / "inner").mkdir()
    (pending.path / "inner" / "cameras.bin").write_bytes(b"1")
    assert visible(files) == []
    pending.commit()
    assert visible(files) == ["colmap/sparse/0/inner/cameras.bin"]
    assert scratch(files) == []


def test_a_folder_replaces_an_older_one(files: RunFiles) -> None:
    for name in ("old", "new"):
        pending = files.folder("colmap")
        (pending.path / name).write_bytes(b"1")
        pending.commit()
    assert visible(files) == ["colmap/new"]
    assert scratch(files) == []


def test_an_aborted_folder_leaves_nothing_and_may_be_aborted_again(files: RunFiles) -> None:
    pending = files.folder("colmap")
    (pending.path / "cameras.bin").write_bytes(b"1")
    pending.abort()
    pending.abort()
    assert visible(files) == scratch(files) == []


@pytest.mark.parametrize("path", ["../other", "a/../../other", "/etc/passwd", "", ".", "a/.."])
def test_paths_may_not_leave_the_run(files: RunFiles, path: str) -> None:
    (files.root.parent / "other").write_bytes(b"foreign")
    actions = (files.read, files.remove, files.file, files.folder, files.exists)
    for action in (*actions, lambda p: files.write(p, b""), lambda p: files.append(p, b"")):
        with pytest.raises(StoreError, match="no path inside the run directory"):
            action(path)
    assert (files.root.parent / "other").read_bytes() == b"foreign"


def test_a_missing_file_is_named(files: RunFiles) -> None:
    with pytest.raises(RunCorruptError, match=r"cannot read submaps/000001\.safetensors .*No such file"):
        files.read("submaps/000001.safetensors")


@pytest.mark.parametrize("action", ["write", "append"])
def test_a_full_disk_is_a_known_error_that_leaves_nothing_open(
    files: RunFiles, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write poses\.txt .*No space left on device.*--resume"):
        getattr(files, action)("poses.txt", b"content")
    assert scratch(files) == []


def test_append_adds_to_the_end_and_truncate_cuts_it_off(files: RunFiles) -> None:
    files.append("log", b"one\n")
    files.append("log", b"two\n")
    assert files.read("log") == b"one\ntwo\n"
    files.truncate("log", 4)
    assert files.read("log") == b"one\n"


def test_remove_takes_files_folders_and_what_is_not_there(files: RunFiles) -> None:
    files.write("a/b/c", b"")
    files.write("d", b"")
    for path in ("a", "d", "missing"):
        files.remove(path)
    assert visible(files) == []


def test_remove_does_not_follow_links_out_of_the_run(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    files.root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "treasure").write_bytes(b"")
    (files.root / "frames").symlink_to(tmp_path / "elsewhere")
    files.remove("frames")
    assert not (files.root / "frames").exists()
    assert (tmp_path / "elsewhere" / "treasure").exists()
