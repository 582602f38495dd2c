"""File systems that fail, die, or forget what was not forced to the disk."""

from __future__ import annotations

import os
import signal
import stat
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from da3stream.store.filesystem import FileSystem

State = dict[str, bytes | None]
"""Path relative to the run directory -> content; None: a folder."""


class Killed(BaseException):
    """The process has died, as far as the test can tell."""


class WatchedFileSystem(FileSystem):
    """Counts the primitive calls; forces nothing to the disk, for speed."""

    def __init__(self) -> None:
        self.calls = 0
        self.names: list[str] = []

    def step(self, name: str) -> None:
        """Called before every primitive call."""
        self.calls += 1
        self.names.append(name)

    def open(self, path: str | Path, flags: int) -> int:
        self.step("open")
        return super().open(path, flags)

    def write(self, descriptor: int, content: Any) -> int:
        self.step("write")
        return super().write(descriptor, content)

    def truncate(self, descriptor: int, length: int) -> None:
        self.step("truncate")
        super().truncate(descriptor, length)

    def fsync(self, descriptor: int) -> None:
        self.step("fsync")

    def replace(self, source: Path, target: Path) -> None:
        self.step("replace")
        super().replace(source, target)

    def unlink(self, path: Path) -> None:
        self.step("unlink")
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self.step("mkdir")
        super().mkdir(path)

    def rmdir(self, path: Path) -> None:
        self.step("rmdir")
        super().rmdir(path)


class FailingFileSystem(WatchedFileSystem):
    """The n-th call (from 0) fails once; a write that fails has written half."""

    def __init__(self, at: int, number: int) -> None:
        super().__init__()
        self.at, self.number = at, number

    def step(self, name: str) -> None:
        super().step(name)
        if self.calls == self.at + 1 and name != "write":
            raise OSError(self.number, os.strerror(self.number))

    def write(self, descriptor: int, content: Any) -> int:
        if self.calls == self.at:
            super().write(descriptor, bytes(content)[: len(content) // 2])
            raise OSError(self.number, os.strerror(self.number))
        return super().write(descriptor, content)


class DyingFileSystem(WatchedFileSystem):
    """From the n-th call (from 0) on nothing changes any more: the process is dead, and cleans nothing up."""

    def __init__(self, at: int, *, for_real: bool = False) -> None:
        super().__init__()
        self.at, self.for_real = at, for_real

    def step(self, name: str) -> None:
        super().step(name)
        if self.calls > self.at:
            if self.for_real:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed


class RecordingFileSystem(WatchedFileSystem):
    """Knows, before every call, what a kill and what a power cut would leave of a folder.

    A file has the content, and a folder the entries, that it had at its last fsync: a file without one is
    empty, and one whose folder was not synced has no name. That is the least that POSIX promises. `cut_short`
    draws, for every entry and content that was not synced, whether it has made it to the disk, in part or as
    zeros.
    """

    def __init__(self, root: Path, seed: int = 0) -> None:
        super().__init__()
        self._root, self._rng = root, np.random.default_rng(seed)
        self._contents: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, int]] = {}
        self._folders: set[int] = set()
        self._held: dict[int, int] = {}
        self.killed: dict[int, State] = {}
        """By a digest that leaves scratch files out: distinct states, the last one seen of each."""
        self.cut_off: dict[int, State] = {}
        self.cut_short: dict[int, State] = {}

    def step(self, name: str) -> None:
        super().step(name)
        if self._root.is_dir():
            live = state_of(self._root)
            for states, state in (
                (self.killed, live),
                (self.cut_off, self._after(lambda old, _: old)),
                (self.cut_short, self._after(self._draw)),
            ):
                states[digest(state)] = state

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self._folders.add(status.st_ino)
            self._entries[status.st_ino] = self._listed(descriptor)
        else:
            reader = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
            with open(reader, "rb") as stream:
                self._contents[status.st_ino] = stream.read()

    def close(self) -> None:
        """Let go of the files that are held so that their inode numbers stay theirs."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def _listed(self, folder: int) -> dict[str, int]:
        listed = {}
        for entry in list(os.scandir(folder)):
            listed[entry.name] = entry.inode()
            if entry.inode() not in self._held:
                self._held[entry.inode()] = os.open(entry.name, os.O_RDONLY, dir_fd=folder)
            if entry.is_dir():
                self._folders.add(entry.inode())
        return listed

    def _after(self, choose: Any) -> State:
        """What is there when power comes back; `choose(old, new)` decides about all that is not synced."""
        contents, entries = dict(self._contents), {ino: dict(names) for ino, names in self._entries.items()}
        for folder, _, names in os.walk(self._root):
            ino = os.stat(folder).st_ino
            new = {entry.name: entry.inode() for entry in os.scandir(folder)}
            self._folders |= {os.stat(Path(folder, name)).st_ino for name in _}
            old = self._entries.get(ino, {})
            drawn = {name: choose(old.get(name), new.get(name)) for name in sorted({*old, *new})}
            entries[ino] = {name: child for name, child in drawn.items() if child is not None}
            for name in names:
                path = Path(folder, name)
                written = path.stat().st_ino
                contents[written] = choose(self._contents.get(written, b""), path.read_bytes())
        state: State = {}
        self._visit(self._root.stat().st_ino, "", entries, contents, state)
        return state

    def _visit(self, ino: int, prefix: str, entries: Any, contents: Any, state: State) -> None:
        for name, child in entries.get(ino, {}).items():
            if child in self._folders:
                state[prefix + name] = None
                self._visit(child, f"{prefix}{name}/", entries, contents, state)
            else:
                state[prefix + name] = contents.get(child, b"")

    def _draw(self, old: Any, new: Any) -> Any:
        if old == new:
            return old
        if isinstance(new, bytes):
            cut = new[: int(self._rng.integers(len(new) + 1))]
            return (old, new, cut, bytes(len(new)))[self._rng.integers(4)]
        return (old, new)[self._rng.integers(2)]


def state_of(root: Path) -> State:
    """What lies in a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def restore(state: State, root: Path) -> None:
    """Make a folder that holds this."""
    root.mkdir(parents=True)
    for name, content in sorted(state.items()):
        if content is None:
            (root / name).mkdir(exist_ok=True)
        else:
            (root / name).write_bytes(content)


def digest(state: State) -> int:
    """Of a state without its scratch files, which every opening removes unread."""
    crc32 = 0
    for name, content in sorted(state.items()):
        if not name.startswith("scratch/"):
            crc32 = zlib.crc32(
                b"%s %d" % (name.encode(), -1 if content is None else zlib.crc32(content)), crc32
            )
    return crc32
