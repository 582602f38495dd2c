"""How child processes end, and how their parent learns why: a leaf, since there are several of them.

A crash comes from what the child worked on, and would come again: the work is lost, and what remains is used.
Any other signal comes from outside, from a user or from a system that is short of memory. Then nothing may be
left out in silence, since the same work succeeds another time.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import IO

CRASHES = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"})
"""Signals that native code draws upon itself."""
_LOOK_EVERY_S = 0.1


def run_unless(
    unwanted: threading.Event, command: Sequence[str], *, stdout: int | IO[bytes] = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, or kill it once nobody wants its result; its status tells which.

    Args:
        unwanted: set, by another thread, once that is so.
        command: program and arguments.
        stdout: where its output goes; by default it is returned.
    """
    with subprocess.Popen(
        command,
        stdout=stdout,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for this process
    ) as process:
        while True:
            try:
                output, errors = process.communicate(timeout=_LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                if unwanted.is_set():
                    process.kill()
            except BaseException:
                process.kill()
                raise
            else:
                return subprocess.CompletedProcess(command, process.returncode, output, errors)


def signal_name(status: int) -> str | None:
    """Name of the signal that ended a process, by `Popen.returncode`; None if none did."""
    if status >= 0:
        return None
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal without a name
        return f"signal {-status}"


def has_crashed(status: int) -> bool:
    """Whether a process ended by a crash of its own, by `Popen.returncode`."""
    return signal_name(status) in CRASHES


def take_signals_back() -> None:
    """In a child with pycolmap: die of a crash at once, and leave Ctrl-C, which reaches all, to the parent.

    pycolmap installs handlers that print a stack trace first. They were seen to deadlock there, which turns a
    crash into a process that hangs.
    """
    for name in (*CRASHES, "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
