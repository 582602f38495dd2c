"""Files and folders that lie under a temporary name until they are complete and on the disk."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import BinaryIO

from da3stream.store.filesystem import FileSystem, WatchedFile

_BUFFER_BYTES = 1 << 20


class PendingFile:
    """A file under a temporary name."""

    def __init__(self, scratch: Path, target: Path, filesystem: FileSystem) -> None:
        self._scratch, self._target, self._filesystem = scratch, target, filesystem
        self.stream: BinaryIO = io.BufferedRandom(WatchedFile(scratch, filesystem), _BUFFER_BYTES)

    def commit(self) -> None:
        """Close, force to the disk and rename."""
        self.stream.flush()
        self._filesystem.fsync(self.stream.fileno())
        self.stream.close()
        self._filesystem.make_folders(self._target.parent)
        self._filesystem.replace(self._scratch, self._target)
        self._filesystem.sync(self._target.parent)

    def abort(self) -> None:
        """Close and remove."""
        with contextlib.suppress(OSError):  # a full disk fails the flush that closing implies
            self.stream.close()
        # It was renamed, or cannot be removed now: then closing the run tries again, and says so.
        with contextlib.suppress(OSError):
            self._filesystem.unlink(self._scratch)


class PendingFolder:
    """A folder under a temporary name."""

    def __init__(self, scratch: Path, target: Path, filesystem: FileSystem) -> None:
        self.path, self._target, self._filesystem = scratch, target, filesystem
        filesystem.mkdir(scratch)

    def commit(self) -> None:
        """Force its files to the disk and rename; an older folder of that name is removed."""
        filesystem = self._filesystem
        for path in [*sorted(self.path.rglob("*")), self.path]:
            filesystem.sync(path)
        filesystem.make_folders(self._target.parent)
        if self._target.exists():
            older = self.path.with_name(f"{self.path.name}.older")
            filesystem.replace(self._target, older)
            filesystem.replace(self.path, self._target)
            filesystem.sync(self._target.parent)
            filesystem.remove_tree(older)
        else:
            filesystem.replace(self.path, self._target)
            filesystem.sync(self._target.parent)

    def abort(self) -> None:
        """Remove it."""
        if self.path.exists():
            # What cannot be removed now is removed, or complained of, when the run is closed.
            with contextlib.suppress(OSError):
                self._filesystem.remove_tree(self.path)


def open_for_appending(path: Path, filesystem: FileSystem) -> int:
    """A descriptor whose writes go to the end of a file, which is made if missing."""
    return filesystem.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
