"""The parent's side of a worker process: start, ask, survive its death, reap."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import da3stream
from da3stream.child_process import has_crashed, signal_name
from da3stream.errors import GO_ON, ProcessLostError
from da3stream.estimation.classical.wire import Message, read_message, write_message

logger = logging.getLogger(__name__)

_MODULE = "da3stream.estimation.classical.worker"
_PATIENCE_S = 10.0


class WorkerProcess:
    """One child process that does one job at a time. It starts with the first job and again after a crash."""

    def __init__(self, *, time_limit_s: float) -> None:
        """`time_limit_s` is the last resort against native code that never returns: the child is killed."""
        self._time_limit_s = time_limit_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id, or None while no child runs."""
        return self._process.pid if self._process else None

    def ask(self, request: Message) -> Message:
        """The reply to a job. A child that crashed answers with the field `failed`.

        After a time-out the reply has the field `timed_out` as well. In each case the child is gone.

        Raises:
            ProcessLostError: the child was killed from outside, ended by itself, or sent no message.
        """
        process = self._process = self._process or _start()
        assert process.stdin is not None
        assert process.stdout is not None
        timed_out = threading.Event()
        watchdog = threading.Timer(self._time_limit_s, _end, args=(process, timed_out))
        watchdog.daemon = True
        watchdog.start()
        try:
            write_message(process.stdin, request)
            reply = read_message(process.stdout)
        except OSError:
            reply = None
        except ValueError as error:
            self.close()
            raise ProcessLostError("a worker process answered with what is no message", got=error) from error
        finally:
            watchdog.cancel()
            watchdog.join()
        if reply is not None:
            return reply
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)  # by itself: killing it first would hide how it ended
        self.close()
        if timed_out.is_set():
            return Message(fields={"failed": f"no answer within {self._time_limit_s:g} s", "timed_out": True})
        status = process.returncode
        if has_crashed(status):
            return Message(fields={"failed": f"its process crashed with {signal_name(status)}"})
        raise _lost(status)

    def close(self) -> None:
        """End the child, if one runs, and reap it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        # What is still buffered for a dead child cannot be flushed.
        for stream in (process.stdin, process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:
                logger.debug("the worker's pipe broke while it was closed")


def _lost(status: int) -> ProcessLostError:
    what, name = "a worker process of the estimator", signal_name(status)
    if name is not None:
        return ProcessLostError(f"{what} was killed with {name}", hint=GO_ON)
    return ProcessLostError(
        f"{what} ended with status {status}",
        expected="an answer",
        hint="Log at level DEBUG to see what it says. What a run has stored is kept.",
    )


def _end(process: subprocess.Popen[bytes], timed_out: threading.Event) -> None:
    timed_out.set()
    process.kill()


def _start() -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        # One thread each: two workers share the processor, and sums in a fixed order repeat bit for bit.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", _MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if logger.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL,
        env=environment,
        # `-m` imports from the working directory first: that must be ours, and no folder of the user.
        cwd=Path(da3stream.__file__).resolve().parents[1],
    )
