"""Several pending files and folders that one writer publishes together."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from da3stream.writers.base import Outputs, PendingFile, PendingFolder


class PendingOutputs:
    """The files and folders that one writer has begun.

    `commit` and `abort` may follow each other in any order and number: what has its name keeps it, and
    nothing is closed twice.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._begun: list[PendingFile | PendingFolder] = []

    def file(self, path: str) -> BinaryIO:
        """Begin a file; if that fails, all that was begun before is removed."""
        try:
            pending = self._outputs.file(path)
        except BaseException:
            self.abort()
            raise
        self._begun.append(pending)
        return pending.stream

    def folder(self, path: str) -> Path:
        """Begin a folder; if that fails, all that was begun before is removed."""
        try:
            pending = self._outputs.folder(path)
        except BaseException:
            self.abort()
            raise
        self._begun.append(pending)
        return pending.path

    def commit(self) -> None:
        """Give everything its name, in the order in which it was begun."""
        while self._begun:
            self._begun[0].commit()
            del self._begun[0]

    def abort(self) -> None:
        """Remove what has no name yet."""
        while self._begun:
            self._begun.pop().abort()
