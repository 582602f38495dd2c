"""All reading and writing in a run directory goes through `RunFiles`.

A file becomes visible under its name only when it is complete and on the disk: it is written into `scratch/`,
fsynced, renamed, and the folder that names it is fsynced.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from da3stream.errors import RunCorruptError, RunLockedError, StoreError
from da3stream.store.filesystem import FileSystem
from da3stream.store.pending import PendingFile, PendingFolder, open_for_appending

SCRATCH = "scratch"
LOCK = "lock"
FILE_SYSTEM = FileSystem()
"""What all run directories are written through. Tests put their doubles here."""
_GLANCE_S = 0.05
"""Far longer than `da3stream.store.glance.is_locked` holds a lock."""


class RunFiles:
    """The files of one run directory; paths are relative to it and may not leave it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.written_bytes = 0
        """What `write` and `append` have written through this object."""
        self._filesystem = FILE_SYSTEM

    def lock(self) -> int:
        """Make the folder if need be and lock it; closing the descriptor unlocks it.

        Raises:
            RunLockedError: another process holds the lock.
            StoreError: the folder cannot be made, or its file system has no locks.
        """
        try:
            self._filesystem.make_folders(self.root)
            is_new = not (self.root / LOCK).exists()
            descriptor = self._filesystem.open(self.root / LOCK, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            _lock_alone(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise RunLockedError(
                f"another process works on {self.root}", hint="Wait for it, or stop it."
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise StoreError(
                f"cannot lock the run directory {self.root}: {error.strerror}",
                hint="Choose a folder on a file system that has locks.",
            ) from error
        if is_new:  # it is by the lock that a folder with nothing else than scratch files is known as ours
            try:
                self._filesystem.sync(self.root)
            except OSError as error:
                os.close(descriptor)
                raise self._unusable(error) from error
        return descriptor

    def _unusable(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write into the run directory {self.root}: {error.strerror}",
            hint="Name another one, or try again once the cause is removed.",
        )

    def path(self, relative: str) -> Path:
        """Absolute path of a file of the run. StoreError if it would lie outside."""
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise StoreError(f"{relative!r} is no path inside the run directory {self.root}")
        return self.root / pure

    def exists(self, relative: str) -> bool:
        """Whether there is such a file or folder."""
        return self.path(relative).exists()

    def read(self, relative: str) -> bytes:
        """The content of a file. RunCorruptError if it is missing or unreadable."""
        try:
            return self.path(relative).read_bytes()
        except OSError as error:
            raise RunCorruptError(
                f"cannot read {relative} of the run {self.root}: {error.strerror}"
            ) from error

    def read_checked(self, relative: str, crc32: int) -> bytes:
        """The content of a file. RunCorruptError if it is missing, unreadable or fails its checksum."""
        content = self.read(relative)
        if zlib.crc32(content) != crc32:
            raise RunCorruptError(
                f"{relative} of the run {self.root} fails its checksum",
                hint="Run again with --resume to make it anew.",
            )
        return content

    def is_intact(self, relative: str, crc32: int) -> bool:
        """Whether a file is there and matches its checksum."""
        try:
            self.read_checked(relative, crc32)
        except RunCorruptError:
            return False
        return True

    def write(self, relative: str, content: bytes) -> None:
        """Write a whole file durably, replacing an older one. StoreError if the disk is full, for example."""
        with self.writing(relative):
            pending = self.file(relative)
            try:
                pending.stream.write(content)
                pending.commit()
                self.written_bytes += len(content)
            except BaseException:
                pending.abort()
                raise

    def file(self, relative: str) -> PendingFile:
        """Begin a file that becomes visible when committed."""
        target = self.path(relative)
        with self.writing(relative):
            return PendingFile(self._scratch(relative), target, self._filesystem)

    def folder(self, relative: str) -> PendingFolder:
        """Begin a folder that becomes visible when committed."""
        target = self.path(relative)
        with self.writing(relative):
            return PendingFolder(self._scratch(relative), target, self._filesystem)

    def append(self, relative: str, line: bytes) -> None:
        """Append to a file and force it to the disk. StoreError if that fails."""
        path = self.path(relative)
        is_new = not path.exists()
        with self.writing(relative):
            descriptor = open_for_appending(path, self._filesystem)
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[self._filesystem.write(descriptor, rest) :]
                self._filesystem.fsync(descriptor)
                self.written_bytes += len(line)
            finally:
                os.close(descriptor)
            if is_new:
                self._filesystem.sync(path.parent)

    def truncate(self, relative: str, length: int) -> None:
        """Cut a file down to its first `length` bytes, durably."""
        with self.writing(relative):
            descriptor = self._filesystem.open(self.path(relative), os.O_RDWR)
            try:
                self._filesystem.truncate(descriptor, length)
                self._filesystem.fsync(descriptor)
            finally:
                os.close(descriptor)

    def remove(self, relative: str) -> None:
        """Remove a file or a folder with all that is in it, durably; missing ones are fine."""
        path = self.path(relative)
        if not os.path.lexists(path):
            return
        with self.writing(relative):
            if path.is_dir() and not path.is_symlink():
                self._filesystem.remove_tree(path)
            else:
                self._filesystem.unlink(path)
            self._filesystem.sync(path.parent)

    def clean_scratch(self) -> None:
        """Remove what an earlier process left unfinished."""
        self.remove(SCRATCH)

    @contextlib.contextmanager
    def writing(self, relative: str) -> Iterator[None]:
        """Turn an OSError of a `with` block into a StoreError that says what could not be written."""
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot write {relative} of the run {self.root}: {error.strerror or error}",
                hint="What is stored until here is kept; once the cause is removed, go on with --resume.",
            ) from error

    def scratch_folder(self) -> Path:
        """A folder that `clean_scratch` removes."""
        folder = self.root / SCRATCH
        with self.writing(SCRATCH):
            self._filesystem.make_folders(self.root)
            self._filesystem.make_folder(folder)
        return folder

    def _scratch(self, relative: str) -> Path:
        return self.scratch_folder() / f"{uuid.uuid4().hex}-{PurePosixPath(relative).name}"


def _lock_alone(descriptor: int) -> None:
    """Lock an open file. BlockingIOError if another process holds it for longer than `is_locked` does."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(_GLANCE_S)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
