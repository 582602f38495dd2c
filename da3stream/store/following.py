"""Reading a run directory that another process may be writing."""

from __future__ import annotations

import os
from pathlib import Path

from da3stream.errors import StoreError
from da3stream.store.files import RunFiles
from da3stream.store.journal import JOURNAL, complete_events
from da3stream.store.manifest import MANIFEST
from da3stream.store.opening import read_manifest
from da3stream.store.run import Run


class _ReadOnlyFiles(RunFiles):
    """Changes nothing. What would is refused, but for mending the journal, which is its writer's work."""

    def lock(self) -> int:
        raise self._refused()

    def scratch_folder(self) -> Path:  # all that is written anew begins there
        raise self._refused()

    def append(self, relative: str, line: bytes) -> None:
        raise self._refused()

    def remove(self, relative: str) -> None:
        raise self._refused()

    def truncate(self, relative: str, length: int) -> None:
        """Leave a line that is being written at this moment alone."""

    def _refused(self) -> StoreError:
        return StoreError(f"the run {self.root} was opened to be read only")


class FollowedRun(Run):
    """A run directory that this process only reads: without the lock, beside its writer if there is one."""

    def __init__(self, root: Path) -> None:
        """
        Raises:
            StoreError: there is no run directory.
            RunCorruptError: its journal is damaged.
        """
        self._read_bytes = 0
        self._inode: int | None = None
        manifest = read_manifest(root)
        self._manifest_ns = 0
        super().__init__(_ReadOnlyFiles(root), None, manifest)
        self._manifest_ns = self._manifest_time()

    def catch_up(self) -> bool:
        """Take in what was written since; whether there was anything.

        Raises:
            StoreError: the run was begun anew, or went back to an earlier state: open it again.
            RunCorruptError: its journal is damaged.
        """
        content = self._new_lines()
        for event in complete_events(content, self.root):
            self._replay(event)
        has_new_manifest = self._manifest_time() != self._manifest_ns
        if has_new_manifest:
            self._manifest_ns = self._manifest_time()
            self.manifest = read_manifest(self.root)
        return bool(content) or has_new_manifest

    def _read_journal(self) -> None:
        for event in complete_events(self._new_lines(), self.root):
            self._replay(event)

    def _new_lines(self) -> bytes:
        """The complete lines of the journal that were not read yet."""
        journal = self.files.path(JOURNAL)
        if not journal.exists():
            return b""
        with journal.open("rb") as file:
            status = os.fstat(file.fileno())
            if self._inode not in (None, status.st_ino) or status.st_size < self._read_bytes:
                raise StoreError(f"the run {self.root} was begun anew or went back", hint="Open it again.")
            self._inode = status.st_ino
            file.seek(self._read_bytes)
            content = file.read()
        content = content[: content.rfind(b"\n") + 1]
        self._read_bytes += len(content)
        return content

    def _manifest_time(self) -> int:
        path = self.files.path(MANIFEST)
        return path.stat().st_mtime_ns if path.exists() else 0
