"""What is told of a run without reading all of it."""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from da3stream.errors import RunCorruptError, RunLockedError
from da3stream.store import Run
from da3stream.store.files import LOCK, RunFiles
from da3stream.store.glance import frames_so_far, is_locked
from da3stream.store.journal import JOURNAL

from .samples import put

Opener = Callable[..., Run]


def test_a_run_is_locked_while_somebody_works_on_it(opened: Opener, root: Path) -> None:
    assert not is_locked(root)  # there is none
    run = opened()
    assert is_locked(root)
    run.close()
    assert not is_locked(root)
    assert not is_locked(root)


def test_what_is_no_lock_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK)
    assert not is_locked(tmp_path)


def test_looking_keeps_nobody_from_locking(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A glance ends while `lock` waits for it; what stays locked is refused."""
    os.close(RunFiles(root).lock())
    glance = os.open(root / LOCK, os.O_RDONLY)
    fcntl.flock(glance, fcntl.LOCK_SH)
    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", lambda seconds: None)
        with pytest.raises(RunLockedError):
            RunFiles(root).lock()
        patched.setattr("time.sleep", lambda seconds: os.close(glance))
        os.close(RunFiles(root).lock())


def test_stored_frames_are_counted(opened: Opener, root: Path) -> None:
    assert frames_so_far(root) is None
    run = opened()
    assert frames_so_far(root) is None
    for index, frames in ((0, 4), (1, 6)):
        put(run, index)
        assert frames_so_far(root) == frames


def line(event: dict[str, Any]) -> bytes:
    payload = json.dumps(event).encode()
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def test_only_the_end_of_a_long_journal_is_read(tmp_path: Path) -> None:
    """Chunks without new frames, other events and a line that is being written count nothing."""
    chunk = line({"event": "chunk", "new": [7, 8]})
    coarse = line({"event": "chunk", "new": []})
    other = line({"event": "edges", "x": 90 * "x"})
    long_ago = chunk + 10_000 * other
    (tmp_path / JOURNAL).write_bytes(b"damaged long ago\n" + 10_000 * other + chunk + coarse + chunk[:30])
    assert frames_so_far(tmp_path) == 9
    (tmp_path / JOURNAL).write_bytes(long_ago)
    assert frames_so_far(tmp_path) is None


def test_a_damaged_end_is_told(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(line({"event": "chunk", "new": [7]}) + b"00000000 {}\n")
    with pytest.raises(RunCorruptError):
        frames_so_far(tmp_path)


def test_what_is_no_journal_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / JOURNAL)
    with pytest.raises(RunCorruptError, match="no file"):
        frames_so_far(tmp_path)
