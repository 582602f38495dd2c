"""One trial of each kind of fault: what went wrong with it, None if nothing did.

The tests run samples of them, `pytest -m slow` and benchmarks/faults.py run them all.
"""

from __future__ import annotations

import errno
import gc
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from da3stream.errors import StoreError
from da3stream.store.manifest import encode_manifest
from da3stream.synthetic.capture import SimulatedWorld

from .capture import open_descriptors, outputs_of, reconstruct
from .doubles import DyingFileSystem, FailingFileSystem, Killed, State, WatchedFileSystem, restore

Outputs = dict[str, bytes]
DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": lambda path: path.write_bytes(_flipped(path.read_bytes())),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "lost": lambda path: path.unlink(),
}
FAILURES = (errno.ENOSPC, errno.EIO)
OWN = ("submaps", "frames", "descriptors")


def resumed(world: SimulatedWorld, state: State, expected: Outputs, folder: Path) -> str | None:
    """A run directory as a kill or a power cut left it is resumed."""
    restore(state, folder)
    return _finished(world, expected, folder)


def killed(world: SimulatedWorld, at: int, expected: Outputs, folder: Path, **options: object) -> str | None:
    """The process dies at a call, as far as the disk can tell, and leaves nothing open."""
    before = open_descriptors()
    try:
        reconstruct(world, folder, DyingFileSystem(at), **options)
    except Killed:
        pass
    else:
        return "it was not killed"
    gc.collect()  # the traceback holds the frames in which files were open, some of them in a circle
    if open_descriptors() > before:
        return "files were left open"
    return _finished(world, expected, folder, **options)


def killed_for_real(world: SimulatedWorld, at: int, expected: Outputs, folder: Path) -> str | None:
    """A process kills itself at a call."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.victim", "kill", str(folder), str(at)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=300,
        check=False,
    )
    if done.returncode != -9:
        return f"it ended with {done.returncode}: {done.stderr.decode()[-300:]}"
    return _finished(world, expected, folder)


def failed(world: SimulatedWorld, at: int, number: int, expected: Outputs, folder: Path) -> str | None:
    """A call fails once."""
    try:
        reconstruct(world, folder, FailingFileSystem(at, number))
    except StoreError as error:
        if "\n" in str(error) or error.hint is None:
            return f"not one line that says what to do: {error}"
        return _finished(world, expected, folder)
    return "the failure was passed over"


@dataclass(frozen=True)
class Half:
    """A run directory that was damaged half way."""

    folder: Path
    calls: list[str]
    """What mending and finishing it takes, by name."""


def half_of(world: SimulatedWorld, whole: Path, folder: Path) -> Half:
    """Make one: the journal ends in the middle of a line, a submap is lost, scratch files are left."""
    shutil.copytree(whole, folder)
    for path in sorted(folder.iterdir()):
        if path.name not in (*OWN, "run.json", "journal.jsonl", "lock"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    journal = (folder / "journal.jsonl").read_bytes()
    (folder / "journal.jsonl").write_bytes(journal[: len(journal) // 2])
    manifest = json.loads((folder / "run.json").read_bytes())
    (folder / "run.json").write_bytes(encode_manifest({**manifest, "status": "running"}))
    (folder / "submaps" / "000002.safetensors").unlink()
    (folder / "scratch" / "left").mkdir(parents=True)
    (folder / "scratch" / "left" / "file").write_bytes(b"left by a killed process")
    again = folder.with_name("mended")
    shutil.copytree(folder, again)
    watched = WatchedFileSystem()
    reconstruct(world, again, watched)
    shutil.rmtree(again)
    return Half(folder=folder, calls=watched.names)


def killed_again(world: SimulatedWorld, half: Half, at: int, expected: Outputs, folder: Path) -> str | None:
    """A damaged half is resumed, and the process dies at a call."""
    shutil.copytree(half.folder, folder)
    return killed(world, at, expected, folder)


def failed_again(world: SimulatedWorld, half: Half, at: int, expected: Outputs, folder: Path) -> str | None:
    """A damaged half is resumed, and a call fails once."""
    shutil.copytree(half.folder, folder)
    return failed(world, at, FAILURES[at % 2], expected, folder)


def keeping_nothing(world: SimulatedWorld, folder: Path) -> tuple[list[str], Outputs]:
    """The calls of a run with `--keep none`, by name, and its outputs."""
    watched = WatchedFileSystem()
    reconstruct(world, folder, watched, keep="none")
    return watched.names, outputs_of(folder)


def damaged(
    world: SimulatedWorld,
    original: Path,
    path: str,
    damage: str,
    expected: Outputs,
    folder: Path,
    **options: object,
) -> str | None:
    """A file of a run is damaged."""
    shutil.copytree(original, folder)
    DAMAGE[damage](folder / path)
    return _finished(world, expected, folder, **options)


def journal_lengths(folder: Path) -> list[int]:
    """Lengths to cut a journal to: before, just after the beginning of, within and just before the end of
    every line."""
    lengths, start = [], 0
    for line in (folder / "journal.jsonl").read_bytes().splitlines(keepends=True):
        lengths += [start, start + 1, start + len(line) // 2, start + len(line) - 1]
        start += len(line)
    return lengths


def cut_journal(
    world: SimulatedWorld, original: Path, length: int, expected: Outputs, folder: Path
) -> str | None:
    """The journal ends early."""
    shutil.copytree(original, folder)
    journal = folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:length])
    return _finished(world, expected, folder)


def until_the_outputs(world: SimulatedWorld, folder: Path, **options: object) -> None:
    """Make a run directory with everything but the outputs."""

    class Stopped(WatchedFileSystem):
        def replace(self, source: Path, target: Path) -> None:
            if target.name == "trajectory.safetensors":
                raise Killed
            super().replace(source, target)

    try:
        reconstruct(world, folder, Stopped(), **options)
    except Killed:
        return
    raise AssertionError("it was not stopped")


def own_files(folder: Path) -> list[str]:
    """Files that a run keeps for itself, and those that say what it is."""
    names = [str(path.relative_to(folder)) for name in OWN for path in sorted((folder / name).iterdir())]
    return [*names, "run.json", "journal.jsonl"]


def _finished(world: SimulatedWorld, expected: Outputs, folder: Path, **options: object) -> str | None:
    reconstruct(world, folder, WatchedFileSystem(), **options)
    found = outputs_of(folder)
    shutil.rmtree(folder)
    differing = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    return f"differs in {differing}" if differing else None


def _flipped(content: bytes) -> bytes:
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 0x10
    return bytes(flipped)
