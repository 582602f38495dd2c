"""What a run stores of an input that comes only once: its frames as JPEGs, in batches, before their use."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from da3stream.errors import RunCorruptError
from da3stream.scene import Frame
from da3stream.store.files import RunFiles
from da3stream.store.frame_file import decode_frames, encode_frames
from da3stream.store.journal import Journal

RECORDED = "recorded"
RECORDING_EVENTS = ("recorded", "recording_ended")


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedBatch:
    """Consecutive frames in one file, without their pixels. All sequences are as long as the batch."""

    first: int
    """Index of the first frame."""
    source_index: tuple[int, ...]
    timestamp_s: tuple[float, ...]
    names: tuple[str | None, ...]
    original_size: tuple[tuple[int, int], ...]
    """(width, height) of the images as they came."""
    crc32: int
    """Of the file."""

    @classmethod
    def of(cls, frames: Sequence[Frame], crc32: int) -> RecordedBatch:
        """The record of some frames."""
        return cls(
            first=frames[0].index,
            source_index=tuple(frame.source_index for frame in frames),
            timestamp_s=tuple(frame.timestamp_s for frame in frames),
            names=tuple(frame.name for frame in frames),
            original_size=tuple(frame.original_size or frame.size for frame in frames),
            crc32=crc32,
        )

    def __len__(self) -> int:
        return len(self.source_index)

    def fields(self) -> dict[str, Any]:
        """The fields of its journal line."""
        return {
            "first": self.first,
            "source_index": list(self.source_index),
            "timestamp_s": list(self.timestamp_s),
            "names": list(self.names),
            "original_size": [list(size) for size in self.original_size],
            "crc32": self.crc32,
        }

    @classmethod
    def parse(cls, event: Mapping[str, Any]) -> RecordedBatch:
        """The record of a journal line."""
        return cls(
            first=event["first"],
            source_index=tuple(event["source_index"]),
            timestamp_s=tuple(event["timestamp_s"]),
            names=tuple(event["names"]),
            original_size=tuple((width, height) for width, height in event["original_size"]),
            crc32=event["crc32"],
        )


class StoredRecording:
    """The recorded frames of a run; empty for an input that can be read again."""

    def __init__(self, files: RunFiles, journal: Journal) -> None:
        self._files, self._journal = files, journal
        self.batches: list[RecordedBatch] = []
        self.warnings: tuple[str, ...] = ()
        """What the source had to say when the last batch was stored, or when it ended."""
        self.has_ended = False
        """Nothing will be added."""

    @property
    def frames(self) -> int:
        """Number of recorded frames."""
        return sum(len(batch) for batch in self.batches)

    def put(self, frames: Sequence[Frame], warnings: Sequence[str]) -> int:
        """Store the frames that follow, and the source's warnings so far; returns the number of the batch."""
        number, content = len(self.batches), encode_frames(frames)
        self._files.write(batch_path(number), content)
        batch = RecordedBatch.of(frames, zlib.crc32(content))
        self._append({"event": "recorded", **batch.fields(), "warnings": list(warnings)})
        return number

    def end(self, warnings: Sequence[str]) -> None:
        """Record that the source has ended."""
        self._append({"event": "recording_ended", "warnings": list(warnings)})

    def read(self, number: int) -> Iterator[Frame]:
        """The frames of a batch, as their JPEGs have them.

        Raises:
            RunCorruptError: the file is missing or damaged.
        """
        batch, path = self.batches[number], batch_path(number)
        if not self._files.is_intact(path, batch.crc32):
            raise RunCorruptError(
                f"{path} of the run {self._files.root} is missing or fails its checksum",
                hint="A live input cannot be captured again: start anew with --overwrite.",
            )
        images = decode_frames(self._files.read(path))
        for row, image in enumerate(images):
            yield Frame(
                index=batch.first + row,
                source_index=batch.source_index[row],
                timestamp_s=batch.timestamp_s[row],
                image=image,
                name=batch.names[row],
                original_size=batch.original_size[row],
            )

    def drop_files(self) -> None:
        """Remove the images: a finished run needs only those of its chunks."""
        self._files.remove(RECORDED)

    def replay(self, event: Mapping[str, Any]) -> None:
        """Take one of RECORDING_EVENTS. What comes after a batch whose line was lost is lost, too."""
        if event["event"] == "recording_ended":
            self.has_ended = True
        elif event["first"] == self.frames:
            self.batches.append(RecordedBatch.parse(event))
        self.warnings = tuple(event["warnings"])

    def _append(self, event: dict[str, Any]) -> None:
        self._journal.append(**event)
        self.replay(event)


def batch_path(number: int) -> str:
    """Where the images of a batch lie."""
    return f"{RECORDED}/{number:06d}.zip"
