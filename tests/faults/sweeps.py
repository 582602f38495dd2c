"""One trial of each kind of fault: what went wrong with it, None if nothing did.

The tests run samples of them, `pytest -m slow` and benchmarks/faults.py run them all.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from da3stream.errors import StoreError
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


def killed(world: SimulatedWorld, at: int, expected: Outputs, folder: Path) -> str | None:
    """The process dies at a call, as far as the disk can tell, and leaves nothing open."""
    before = open_descriptors()
    try:
        reconstruct(world, folder, DyingFileSystem(at))
    except Killed:
        if open_descriptors() > before:
            return "files were left open"
        return _finished(world, expected, folder)
    return "it was not killed"


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


def damaged(
    world: SimulatedWorld, original: Path, path: str, damage: str, expected: Outputs, folder: Path
) -> str | None:
    """A file of an unfinished run is damaged."""
    shutil.copytree(original, folder)
    DAMAGE[damage](folder / path)
    return _finished(world, expected, folder)


def cut_journal(
    world: SimulatedWorld, original: Path, length: int, expected: Outputs, folder: Path
) -> str | None:
    """The journal ends early."""
    shutil.copytree(original, folder)
    journal = folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:length])
    return _finished(world, expected, folder)


def until_the_outputs(world: SimulatedWorld, folder: Path) -> None:
    """Make a run directory with everything but the outputs."""

    class Stopped(WatchedFileSystem):
        def replace(self, source: Path, target: Path) -> None:
            if target.name == "trajectory.safetensors":
                raise Killed
            super().replace(source, target)

    try:
        reconstruct(world, folder, Stopped())
    except Killed:
        return
    raise AssertionError("it was not stopped")


def own_files(folder: Path) -> list[str]:
    """Files that a run keeps for itself, and those that say what it is."""
    names = [str(path.relative_to(folder)) for name in OWN for path in sorted((folder / name).iterdir())]
    return [*names, "run.json", "journal.jsonl"]


def _finished(world: SimulatedWorld, expected: Outputs, folder: Path) -> str | None:
    reconstruct(world, folder, WatchedFileSystem())
    found = outputs_of(folder)
    shutil.rmtree(folder)
    differing = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    return f"differs in {differing}" if differing else None


def _flipped(content: bytes) -> bytes:
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 0x10
    return bytes(flipped)
