"""Reading a run directory that another process may be writing."""

from __future__ import annotations

import os
from pathlib import Path

from da3stream.errors import RunRestartedError, StoreError
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
        self._read_bytes, self._last_line = 0, b""
        self._inode: int | None = None
        manifest = read_manifest(root)
        self._manifest_ns = 0
        super().__init__(_ReadOnlyFiles(root), None, manifest)
        self._manifest_ns = self._manifest_time()

    def catch_up(self) -> bool:
        """Take in what was written since; whether there was anything.

        Raises:
            RunRestartedError: the run was begun anew, or went back to an earlier state: open it again.
            StoreError: there is no run directory any more.
            RunCorruptError: its journal is damaged.
        """
        content = self._new_lines()
        for event in complete_events(content, self.root):
            self._replay(event)
        has_new_manifest = self._manifest_time() != self._manifest_ns
        if has_new_manifest:
            self._manifest_ns = self._manifest_time()
            manifest = read_manifest(self.root)
            if manifest["config"] != self.manifest["config"]:
                raise self._restarted()
            self.manifest = manifest
        return bool(content) or has_new_manifest

    @property
    def closed_loops(self) -> list[tuple[int, int]]:
        """(later, earlier) frames of the loops that were closed."""
        return [pair for pair, loop in self.loops.items() if loop.is_accepted]

    def _read_journal(self) -> None:
        for event in complete_events(self._new_lines(), self.root):
            self._replay(event)

    def _new_lines(self) -> bytes:
        """The complete lines of the journal that were not read yet."""
        journal = self.files.path(JOURNAL)
        if not journal.exists():
            if self._read_bytes:
                raise self._restarted()
            return b""
        with journal.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            file.seek(self._read_bytes - len(self._last_line))
            # A new file may get the number of the one that it replaces.
            if self._inode not in (None, inode) or file.read(len(self._last_line)) != self._last_line:
                raise self._restarted()
            self._inode = inode
            content = file.read()
        content = content[: content.rfind(b"\n") + 1]
        if content:
            self._read_bytes += len(content)
            self._last_line = content[content.rfind(b"\n", 0, -1) + 1 :]
        return content

    def _restarted(self) -> RunRestartedError:
        return RunRestartedError(f"the run {self.root} was begun anew or went back", hint="Open it again.")

    def _manifest_time(self) -> int:
        path = self.files.path(MANIFEST)
        return path.stat().st_mtime_ns if path.exists() else 0
