"""Starts, reads and ends the decoder process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import da3stream
from da3stream import errors
from da3stream.child_process import has_crashed, signal_name
from da3stream.source.records import Kind, Record, encode_record, read_record, write_record

_PIPE_BYTES = 1 << 20
_PATIENCE_S = 10.0
_STDERR_TAIL_BYTES = 2000


class DecoderProcess:
    """A decoder process and the records that it sends. A context manager: on leaving, the process is gone.

    It has a session of its own, so Ctrl-C reaches only this process, and it ends when this process does.
    """

    def __init__(
        self,
        mode: str,
        path: Path | str,
        fields: dict[str, Any],
        payload: bytes = b"",
        descriptor: int | None = None,
    ) -> None:
        """Start the process.

        Args:
            mode: what it does, see `decoder`.
            path: of the video file; text is what messages call a live input.
            fields: of the request.
            payload: of the request.
            descriptor: an open file that the process inherits under the same number.

        Raises:
            InputError: the process cannot be started.
        """
        self._path = path
        # A file cannot block its writer, as a pipe that nobody reads would.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "da3stream.source.decoder", mode, _named(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                pass_fds=() if descriptor is None else (descriptor,),
                # `-m` imports from the working directory first: that must be ours, and no folder of the user.
                cwd=Path(da3stream.__file__).resolve().parents[1],
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise errors.InputError("the decoder process cannot be started", got=str(error)) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        _widen(self._stdout)
        with suppress(BrokenPipeError):  # it died at once: `records` says why
            write_record(self._stdin, Kind.REQUEST, fields, payload)
        self._was_ended = False
        self.death_signal: str | None = None
        """Name of the signal of a crash that ended the process, once `records` has ended."""

    def __enter__(self) -> DecoderProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._stdin.close()
        self._stdout.close()
        self._stderr.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def request_stop(self) -> None:
        """Ask for the end of a capture. From any thread, and also if the process is gone."""
        with suppress(OSError, ValueError):  # ValueError: the pipe is closed on this side already
            # Past the buffer, which another thread may be writing: a record this short is written at once.
            os.write(self._stdin.fileno(), encode_record(Kind.STOP, {}))

    def kill(self) -> None:
        """End the process now; `records` ends, too."""
        self._was_ended = True
        self._process.kill()

    def records(self) -> Iterator[Record]:
        """All records until the process ends. If it crashed, `death_signal` names the signal afterwards.

        Raises:
            InputError: the input cannot be used (the subclass says why), or the process failed.
            ProcessLostError: the process was killed from outside.
        """
        while (record := read_record(self._stdout)) is not None:
            if record.kind is Kind.ERROR:
                raise _error_of(record.fields)
            yield record
        self._judge_end()

    def _judge_end(self) -> None:
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise errors.InputError("the decoder process closed its output and does not end") from None
        if self._was_ended:
            return
        if has_crashed(code):
            self.death_signal = signal_name(code)
        elif code < 0:
            raise errors.ProcessLostError(
                f"the decoder of {self._path} was killed with {signal_name(code)}", hint=errors.GO_ON
            )
        elif code > 0:
            raise errors.InputError(
                f"the decoder process failed with status {code}", got=self._last_words() or "no message"
            )

    def _last_words(self) -> str:
        """The last line that the process wrote to its standard error."""
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _STDERR_TAIL_BYTES))
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""


def _named(path: Path | str) -> str:
    return path if isinstance(path, str) else str(path.absolute())


def _error_of(fields: dict[str, Any]) -> errors.InputError:
    """The error that the decoder process reported."""
    error_type = getattr(errors, fields["type"])
    assert issubclass(error_type, errors.InputError), fields
    return error_type(fields["what"], got=fields["got"], expected=fields["expected"], hint=fields["hint"])


def _widen(pipe: IO[bytes]) -> None:
    """Let more than one frame wait in the pipe, where the system can do so: fewer turns for both sides."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
