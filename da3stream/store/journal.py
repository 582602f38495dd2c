"""The journal: a checked JSON line for each thing that is finished, appended after its files are on the disk.

A line is `<crc32 in 8 hex digits> <JSON object>\n`. A line that a crash cut short is dropped on opening; a
damaged line before the end is an error.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from da3stream.errors import RunCorruptError
from da3stream.store.files import RunFiles

JOURNAL = "journal.jsonl"

Event = Mapping[str, Any]


class Journal:
    """Appends events to journal.jsonl and reads them back."""

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._turn = threading.Lock()

    def append(self, event: str, **fields: Any) -> None:
        """Append one event durably. From any thread: capturing goes on while chunks are stored."""
        payload = json.dumps({"event": event, **fields}, separators=(",", ":"), allow_nan=False).encode()
        with self._turn:
            self._files.append(JOURNAL, b"%08x %s\n" % (zlib.crc32(payload), payload))

    def read(self) -> Iterator[Event]:
        """All events in order.

        Raises:
            RunCorruptError: a line before the last one is damaged.
        """
        if not self._files.exists(JOURNAL):
            return
        content = self._files.read(JOURNAL)
        start = 0
        while start < len(content):
            stop = content.find(b"\n", start)
            event = _parse(content[start:stop]) if stop >= 0 else None
            if event is None:
                if 0 <= stop < len(content) - 1:
                    raise RunCorruptError(
                        f"{self._files.root / JOURNAL} is damaged at byte {start}",
                        hint="Run again with --overwrite.",
                    )
                self._files.truncate(JOURNAL, start)
                return
            yield event
            start = stop + 1

    def salvage(self) -> Iterator[Event]:
        """The events that can still be read, in order; damaged lines are passed over."""
        if self._files.exists(JOURNAL):
            for line in self._files.read(JOURNAL).split(b"\n"):
                event = _parse(line)
                if event is not None:
                    yield event


def _parse(line: bytes) -> Event | None:
    checksum, _, payload = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(payload):
        return None
    return json.loads(payload)
