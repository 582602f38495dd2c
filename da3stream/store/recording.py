"""What a run stores of an input that comes only once: its frames as JPEGs, in batches, before their use."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import Frame
from da3stream.store.files import RunFiles
from da3stream.store.frame_file import decode_frames, encode_frames
from da3stream.store.journal import Journal
from da3stream.store.records import (
    known_poses_of,
    own_intrinsics_of,
    parse_intrinsics,
    parse_poses,
)

RECORDED = "recorded"
RECORDING_EVENTS = ("recorded", "recording_lost", "recording_ended")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordedBatch:
    """Consecutive frames in one file, without their pixels. All sequences are as long as the batch."""

    number: int
    """Of its file."""
    first: int
    """Index of the first frame."""
    source_index: tuple[int, ...]
    timestamp_s: tuple[float, ...]
    names: tuple[str | None, ...]
    original_size: tuple[tuple[int, int], ...]
    """(width, height) of the images as they came."""
    crc32: int
    """Of the file."""
    world_from_cam: NDArray[np.float64] | None = None
    """(M, 4, 4) poses that the source knew, or None."""
    intrinsics: NDArray[np.float64] | None = None
    """(M, 3, 3) cameras that the source knew of every frame, or None."""

    @classmethod
    def of(cls, frames: Sequence[Frame], number: int, crc32: int) -> RecordedBatch:
        """The record of some frames."""
        return cls(
            number=number,
            first=frames[0].index,
            source_index=tuple(frame.source_index for frame in frames),
            timestamp_s=tuple(frame.timestamp_s for frame in frames),
            names=tuple(frame.name for frame in frames),
            original_size=tuple(frame.original_size or frame.size for frame in frames),
            crc32=crc32,
            world_from_cam=known_poses_of(frames),
            intrinsics=own_intrinsics_of(frames),
        )

    def __len__(self) -> int:
        return len(self.source_index)

    def fields(self) -> dict[str, Any]:
        """The fields of its journal line."""
        return {
            "number": self.number,
            "first": self.first,
            "source_index": list(self.source_index),
            "timestamp_s": list(self.timestamp_s),
            "names": list(self.names),
            "original_size": [list(size) for size in self.original_size],
            "crc32": self.crc32,
            "world_from_cam": None if self.world_from_cam is None else self.world_from_cam.tolist(),
            "intrinsics": None if self.intrinsics is None else self.intrinsics.tolist(),
        }

    @classmethod
    def parse(cls, event: Mapping[str, Any]) -> RecordedBatch:
        """The record of a journal line."""
        return cls(
            number=event["number"],
            first=event["first"],
            source_index=tuple(event["source_index"]),
            timestamp_s=tuple(event["timestamp_s"]),
            names=tuple(event["names"]),
            original_size=tuple((width, height) for width, height in event["original_size"]),
            crc32=event["crc32"],
            world_from_cam=parse_poses(event.get("world_from_cam")),
            intrinsics=parse_intrinsics(event.get("intrinsics")),
        )


class StoredRecording:
    """The recorded frames of a run; empty for an input that can be read again."""

    def __init__(self, files: RunFiles, journal: Journal) -> None:
        self._files, self._journal = files, journal
        self.batches: list[RecordedBatch] = []
        self._next_number = 0
        self.warnings: tuple[str, ...] = ()
        """What the source had to say when the last batch was stored, or when it ended."""
        self.has_ended = False
        """Nothing will be added."""

    @property
    def frames(self) -> int:
        """Number of recorded frames."""
        return sum(len(batch) for batch in self.batches)

    def put(self, frames: Sequence[Frame], warnings: Sequence[str]) -> int:
        """Store the frames that follow, and the source's warnings so far; returns the batch's place."""
        number, content = self._next_number, encode_frames(frames)
        self._files.write(batch_path(number), content)
        batch = RecordedBatch.of(frames, number, zlib.crc32(content))
        self._append({"event": "recorded", **batch.fields(), "warnings": list(warnings)})
        return len(self.batches) - 1

    def end(self, warnings: Sequence[str]) -> None:
        """Record that the source has ended."""
        self._append({"event": "recording_ended", "warnings": list(warnings)})

    def damaged(self) -> list[RecordedBatch]:
        """The batches whose files are missing or damaged. Reads all files."""
        return [b for b in self.batches if not self._files.is_intact(batch_path(b.number), b.crc32)]

    def lose(self, batch: RecordedBatch) -> None:
        """Record that a batch is lost. The frames behind it move up, as if it had been dropped in capture."""
        lost = (
            f"{len(batch)} recorded frames ({batch.timestamp_s[0]:.2f} to {batch.timestamp_s[-1]:.2f} s) are "
            f"left out: {batch_path(batch.number)} was missing or damaged"
        )
        warnings = [*self.warnings, lost]
        self._append({"event": "recording_lost", "number": batch.number, "warnings": warnings})

    def read(self, place: int) -> Iterator[Frame]:
        """The frames of one of `batches`, as their JPEGs have them.

        Raises:
            RunCorruptError: the file is missing or damaged.
        """
        batch = self.batches[place]
        images = decode_frames(self._files.read_checked(batch_path(batch.number), batch.crc32))
        for row, image in enumerate(images):
            yield Frame(
                index=batch.first + row,
                source_index=batch.source_index[row],
                timestamp_s=batch.timestamp_s[row],
                image=image,
                name=batch.names[row],
                original_size=batch.original_size[row],
                world_from_cam=None if batch.world_from_cam is None else batch.world_from_cam[row],
                intrinsics=None if batch.intrinsics is None else batch.intrinsics[row],
            )

    def drop_files(self) -> None:
        """Remove the images: a finished run needs only those of its chunks."""
        self._files.remove(RECORDED)

    def replay(self, event: Mapping[str, Any]) -> None:
        """Take one of RECORDING_EVENTS. What comes after a batch whose line was lost is lost, too."""
        if event["event"] == "recording_ended":
            self.has_ended = True
        elif event["event"] == "recording_lost":
            self._leave_out(event["number"])
        elif event["first"] == self.frames:
            self.batches.append(RecordedBatch.parse(event))
            self._next_number = event["number"] + 1
        self.warnings = tuple(event["warnings"])

    def _leave_out(self, number: int) -> None:
        kept, first = [batch for batch in self.batches if batch.number != number], 0
        self.batches = []
        for batch in kept:
            self.batches.append(replace(batch, first=first))
            first += len(batch)

    def _append(self, event: dict[str, Any]) -> None:
        self._journal.append(**event)
        self.replay(event)


def batch_path(number: int) -> str:
    """Where the images of a batch lie."""
    return f"{RECORDED}/{number:06d}.zip"
