"""What can be told of a run that has not finished without reading all of it: for lists of many runs."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from da3stream.errors import RunCorruptError
from da3stream.store.files import LOCK
from da3stream.store.journal import JOURNAL, complete_events

_TAIL_BYTES = 256 * 1024
"""Of the journal: dozens of chunks with their edges."""


def is_locked(root: Path) -> bool:
    """Whether a process works on a run directory.

    It takes the lock for a moment, shared; `RunFiles.lock` waits for that.

    Raises:
        OSError: it cannot be known, on a file system without locks for example.
    """
    try:
        descriptor = _open_at_once(root / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def frames_so_far(root: Path) -> int | None:
    """How many frames of a run are stored, by the end of its journal; None if that names no chunk of frames.

    Raises:
        RunCorruptError: the end of the journal is damaged, or it is no file.
        OSError: the journal cannot be read.
    """
    try:
        with open(root / JOURNAL, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RunCorruptError(f"{root / JOURNAL} is no file")
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            tail = file.read(_TAIL_BYTES)
    except FileNotFoundError:
        return None
    first = tail.find(b"\n") + 1 if start else 0  # the line that it begins in is not whole
    chunks = complete_events(tail[first : tail.rfind(b"\n") + 1], root)
    last = [event["new"][-1] for event in chunks if event["event"] == "chunk" and event["new"]]
    return 1 + max(last) if last else None


def _open_at_once(path: str | Path, flags: int) -> int:
    """A FIFO of that name would wait for who writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)
