"""The journal: a checked JSON line for each thing that is finished, appended after its files are on the disk.

A line is `<crc32 in 8 hex digits> <JSON object>\n`. A line that a crash cut short is dropped on opening. A
damaged line before the end ends what can be trusted: what follows may rest on what is lost. But everything
before it is a journal as a killed run would have left it, so it can be mended by going back to there.
"""

from __future__ import annotations

import io
import json
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from da3stream.errors import RunCorruptError, StoreError, command_line
from da3stream.store.files import RunFiles

JOURNAL = "journal.jsonl"

Event = Mapping[str, Any]

TIMELESS = ("begin", "output", "recorded", "recording_lost", "recording_ended", "alignment")
"""Events that hold whatever else is forgotten: what was asked for, which files are ours, the frames of an
input that comes only once, and the world frame that was chosen by hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    start: int
    """Byte at which it begins."""
    content: bytes
    """With its line break, if it has one."""
    event: Event | None
    """None if it is damaged."""
    is_last: bool


class Journal:
    """Appends events to journal.jsonl and reads them back. Several threads may append."""

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._appending = threading.Lock()
        self._is_broken = False

    def append(self, event: str, **fields: Any) -> None:
        """Append one event durably.

        Raises:
            StoreError: it cannot be written, or an earlier one could not: half of that may be in the file.
        """
        payload = json.dumps({"event": event, **fields}, separators=(",", ":"), allow_nan=False).encode()
        with self._appending:
            if self._is_broken:
                raise StoreError(
                    f"nothing can follow a line of {self._files.root / JOURNAL} that could not be written",
                    hint="What is stored until here is kept; go on with --resume.",
                )
            self._is_broken = True
            self._files.append(JOURNAL, b"%08x %s\n" % (zlib.crc32(payload), payload))
            self._is_broken = False

    def read(self) -> Iterator[Event]:
        """All events in order. A last line that was cut short is removed.

        Raises:
            RunCorruptError: a line before the last one is damaged.
        """
        for line in self._lines():
            if line.event is not None:
                yield line.event
            elif line.is_last:
                self._files.truncate(JOURNAL, line.start)
            else:
                raise RunCorruptError(
                    f"{self._files.root / JOURNAL} is damaged at byte {line.start}",
                    hint="What followed is made anew by: " + command_line("resume", self._files.root),
                )

    def salvage(self) -> Iterator[Event]:
        """The events that can still be read, in order; damaged lines are passed over."""
        return (line.event for line in self._lines() if line.event is not None)

    @property
    def damaged_at(self) -> int | None:
        """Byte at which a damaged line begins that is not the last one; None if there is none."""
        return next((line.start for line in self._lines() if line.event is None and not line.is_last), None)

    def go_back_to(self, start: int) -> None:
        """Forget, durably, what was said at this byte and later; `TIMELESS` events stay."""
        kept = [line.content for line in self._lines() if line.start < start or _is_timeless(line.event)]
        self._files.write(JOURNAL, b"".join(kept))

    def find(self, wanted: Callable[[Event], bool]) -> int | None:
        """Byte at which the first line of such an event begins; None if there is none."""
        return next((line.start for line in self._lines() if line.event and wanted(line.event)), None)

    def _lines(self) -> Iterator[_Line]:
        if not self._files.exists(JOURNAL):
            return
        content, start = self._files.read(JOURNAL), 0
        for line in io.BytesIO(content):
            is_last = start + len(line) == len(content)
            yield _Line(start=start, content=line, event=_parse(line), is_last=is_last)
            start += len(line)


def complete_events(content: bytes, root: Path) -> Iterator[Event]:
    """The events of complete lines of the journal of the run at `root`.

    Raises:
        RunCorruptError: a line is damaged.
    """
    for line in io.BytesIO(content):
        event = _parse(line)
        if event is None:
            raise RunCorruptError(
                f"{root / JOURNAL} is damaged",
                hint=f"What followed is made anew by: {command_line('resume', root)}",
            )
        yield event


def _is_timeless(event: Event | None) -> bool:
    return event is not None and event["event"] in TIMELESS


def _parse(line: bytes) -> Event | None:
    checksum, _, payload = line[:-1].partition(b" ")
    if line[-1:] != b"\n" or checksum != b"%08x" % zlib.crc32(payload):
        return None
    return json.loads(payload)
