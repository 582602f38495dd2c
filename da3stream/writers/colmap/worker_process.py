"""The parent's side of the worker process: start, listen, survive its crash, reap."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import da3stream
from da3stream import errors
from da3stream.child_process import has_crashed, signal_name
from da3stream.errors import RESUME, ProcessLostError

logger = logging.getLogger(__name__)

_MODULE = "da3stream.writers.colmap.worker"
_AGAIN = f"Probably memory ran out. The run is as it was: export again, or finish it with {RESUME}"


class WorkerFailedError(Exception):
    """Native code crashed or gave up over this very work: it would do so again."""


def run_worker(folder: Path, scratch: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Have the job in `scratch` done in `folder`; returns the report of `worker.work`.

    Raises:
        WorkerFailedError: its native code crashed or raised.
        ProcessLostError: it was killed from outside, or ended without an answer.
        Da3StreamError: what the worker raised.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", _MODULE, str(folder.resolve()), str(scratch.resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if logger.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL,
        # One thread in each product: sums in a fixed order repeat bit for bit.
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        # `-m` imports from the working directory first: that must be ours, and no folder of the user.
        cwd=Path(da3stream.__file__).resolve().parents[1],
    )
    answer: dict[str, Any] = {}
    try:
        assert process.stdout is not None
        for line in process.stdout:
            message = json.loads(line)
            if "say" in message:
                say(message["say"])
            else:
                answer = message
        status = process.wait()
    finally:
        _reap(process)
    return _report(answer, status)


def _report(answer: dict[str, Any], status: int) -> dict[str, Any]:
    if "report" in answer:
        report: dict[str, Any] = answer["report"]
        return report
    if "error" in answer:
        parts = dict(answer["error"])
        error = getattr(errors, parts.pop("type"))(parts.pop("what"), **parts)
        raise error
    if "failed" in answer:
        raise WorkerFailedError(answer["failed"])
    if has_crashed(status):
        raise WorkerFailedError(f"its process crashed with {signal_name(status)}")
    name = signal_name(status)
    how = f"was killed with {name}" if name is not None else f"ended with status {status}"
    raise ProcessLostError(f"the worker process of the COLMAP folder {how}", hint=_AGAIN)


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
