"""The calls by which the store changes the disk, one method each: tests replace them all at once."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any


class FileSystem:
    """Makes, fills, forces to the disk, renames and removes files and folders.

    The upper methods are the only system calls by which the store changes anything; the lower ones are made
    of them. All raise OSError.
    """

    def open(self, path: str | Path, flags: int) -> int:
        """A descriptor of a file or folder; flags as of `os.open`."""
        return os.open(path, flags | os.O_CLOEXEC, 0o666)

    def write(self, descriptor: int, content: Any) -> int:
        """Write from the descriptor's position on; returns how many bytes were taken, maybe not all."""
        return os.write(descriptor, content)

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut a file down to its first `length` bytes."""
        os.ftruncate(descriptor, length)

    def fsync(self, descriptor: int) -> None:
        """Force a file's content, or a folder's entries, to the disk."""
        os.fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename; a file of the target's name is replaced."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a file or a link."""
        os.unlink(path)

    def mkdir(self, path: Path) -> None:
        """Make a folder."""
        os.mkdir(path)

    def rmdir(self, path: Path) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    # Made of these ------------------------------------------------------------------------------

    def sync(self, path: Path) -> None:
        """Force a folder's entries, or a closed file's content, to the disk."""
        descriptor = self.open(path, os.O_RDONLY)
        try:
            self.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_folders(self, path: Path) -> None:
        """Make a folder and those above it, durably. FileExistsError if one of them is a file."""
        if path.is_dir():
            return
        self.make_folders(path.parent)
        self.make_folder(path)
        self.sync(path.parent)

    def make_folder(self, path: Path) -> None:
        """Make a folder unless it is there, maybe made by another thread in this moment."""
        try:
            self.mkdir(path)
        except FileExistsError:
            if not path.is_dir():
                raise

    def remove_tree(self, path: Path) -> None:
        """Remove a folder with all that is in it; links are removed, not followed."""
        for folder, folders, names in os.walk(path, topdown=False, onerror=_raise):
            for name in names:
                self.unlink(Path(folder, name))
            for name in folders:
                inner = Path(folder, name)
                self.unlink(inner) if inner.is_symlink() else self.rmdir(inner)
        self.rmdir(path)


class WatchedFile(io.FileIO):
    """An unbuffered new file that opens and writes by way of a `FileSystem`."""

    def __init__(self, path: Path, filesystem: FileSystem) -> None:
        self._filesystem = filesystem
        super().__init__(path, "w+", opener=filesystem.open)

    def write(self, content: Any) -> int:
        """As of `io.RawIOBase`."""
        return self._filesystem.write(self.fileno(), content)


def _raise(error: OSError) -> None:
    raise error
