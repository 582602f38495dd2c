"""All reading and writing in a run directory goes through `RunFiles`.

A file becomes visible under its name only when it is complete and on the disk: it is written into `scratch/`,
fsynced, renamed, and the folder that names it is fsynced.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from da3stream.errors import RunCorruptError, StoreError

SCRATCH = "scratch"


class RunFiles:
    """The files of one run directory; paths are relative to it and may not leave it."""

    def __init__(self, root: Path) -> None:
        self.root = root

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
            except BaseException:
                pending.abort()
                raise

    def file(self, relative: str) -> PendingFile:
        """Begin a file that becomes visible when committed."""
        return PendingFile(self._scratch(relative), self.path(relative))

    def folder(self, relative: str) -> PendingFolder:
        """Begin a folder that becomes visible when committed."""
        return PendingFolder(self._scratch(relative), self.path(relative))

    def append(self, relative: str, line: bytes) -> None:
        """Append to a file and force it to the disk. StoreError if that fails."""
        path = self.path(relative)
        is_new = not path.exists()
        with self.writing(relative):
            with path.open("ab") as stream:
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
            if is_new:
                sync_folder(path.parent)

    def truncate(self, relative: str, length: int) -> None:
        """Cut a file down to its first `length` bytes, durably."""
        with self.path(relative).open("r+b") as stream:
            stream.truncate(length)
            os.fsync(stream.fileno())

    def remove(self, relative: str) -> None:
        """Remove a file or a folder with all that is in it; missing ones are fine."""
        path = self.path(relative)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

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
                f"cannot write {relative} of the run {self.root}: {error.strerror}",
                hint="What is stored until here is kept; once the cause is removed, go on with --resume.",
            ) from error

    def scratch_folder(self) -> Path:
        """A folder that `clean_scratch` removes."""
        folder = self.root / SCRATCH
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _scratch(self, relative: str) -> Path:
        return self.scratch_folder() / f"{uuid.uuid4().hex}-{PurePosixPath(relative).name}"


class PendingFile:
    """A file under a temporary name."""

    def __init__(self, scratch: Path, target: Path) -> None:
        self._scratch, self._target = scratch, target
        self.stream: BinaryIO = io.BufferedRandom(io.FileIO(scratch, "w+"), buffer_size=1 << 20)

    def commit(self) -> None:
        """Close, force to the disk and rename."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
        self._target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self._scratch, self._target)
        sync_folder(self._target.parent)

    def abort(self) -> None:
        """Close and remove."""
        with contextlib.suppress(OSError):  # a full disk fails the flush that closing implies
            self.stream.close()
        self._scratch.unlink(missing_ok=True)


class PendingFolder:
    """A folder under a temporary name."""

    def __init__(self, scratch: Path, target: Path) -> None:
        self.path, self._target = scratch, target
        scratch.mkdir()

    def commit(self) -> None:
        """Force its files to the disk and rename; an older folder of that name is removed."""
        for path in [*self.path.rglob("*"), self.path]:
            sync_folder(path)
        self._target.parent.mkdir(parents=True, exist_ok=True)
        if self._target.exists():
            older = self.path.with_name(f"{self.path.name}.older")
            os.replace(self._target, older)
            os.replace(self.path, self._target)
            shutil.rmtree(older)
        else:
            os.replace(self.path, self._target)
        sync_folder(self._target.parent)

    def abort(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Force a folder's entries, or a closed file's content, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
