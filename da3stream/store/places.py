"""What a run stores of places: a descriptor file a chunk, the vocabulary, or why there is none of it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.store.descriptor_file import (
    decode_descriptors,
    decode_vocabulary,
    encode_descriptors,
    encode_vocabulary,
    read_descriptors,
)
from da3stream.store.files import RunFiles
from da3stream.store.journal import Journal

VOCABULARY = "place/vocabulary.safetensors"
PLACE_FOLDERS = ("descriptors", "place")
PLACE_EVENTS = ("descriptors", "vocabulary", "no_places")


class StoredPlaces:
    """The part of `Run` that knows place descriptors."""

    def __init__(self, files: RunFiles, journal: Journal) -> None:
        self.files, self._journal = files, journal
        self._descriptors_crc32: dict[int, int] = {}
        """By chunk index."""
        self._vocabulary_crc32: int | None = None
        self.vocabulary_chunk: int | None = None
        """Index of the chunk whose frames completed the vocabulary; None: the end of the stream did."""
        self.no_places: str | None = None
        """Why this video has no place descriptors, though they were asked for; None if nothing is wrong."""

    def has_descriptors(self, index: int) -> bool:
        """Whether the descriptors of a chunk are stored and intact."""
        crc32 = self._descriptors_crc32.get(index)
        return crc32 is not None and self.files.is_intact(descriptors_path(index), crc32)

    def descriptors(self, index: int) -> NDArray[np.float32] | None:
        """(M, dim) place descriptors of the frames that a chunk owns, None if they were not made.

        Raises:
            RunCorruptError: their file is missing or damaged.
        """
        crc32 = self._descriptors_crc32.get(index)
        if crc32 is None:
            return None
        return decode_descriptors(self.files.read_checked(descriptors_path(index), crc32))

    def read_descriptors(self, index: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(R, dim) some rows of `descriptors`, read alone and not checked.

        Raises:
            RunCorruptError: their file is missing or cannot be read.
        """
        return read_descriptors(self.files.path(descriptors_path(index)), rows)

    def put_descriptors(self, index: int, vectors: NDArray[np.float32]) -> None:
        """Store the (M, dim) place descriptors of the frames that a chunk owns, as float16."""
        self._put("descriptors", descriptors_path(index), encode_descriptors(vectors), index=index)

    def forget_descriptors(self, index: int) -> None:
        """A chunk is made anew: what was said of its frames is to be said again."""
        self._descriptors_crc32.pop(index, None)

    @property
    def has_vocabulary(self) -> bool:
        """Whether a vocabulary is stored and intact."""
        crc32 = self._vocabulary_crc32
        return crc32 is not None and self.files.is_intact(VOCABULARY, crc32)

    @property
    def has_lost_vocabulary(self) -> bool:
        """Whether a vocabulary was stored whose file is missing or damaged."""
        return self._vocabulary_crc32 is not None and not self.has_vocabulary

    def vocabulary(self) -> NDArray[np.float32] | None:
        """(words, D) centres of the vocabulary of places, None if none was learnt.

        Raises:
            RunCorruptError: its file is missing or damaged.
        """
        if self._vocabulary_crc32 is None:
            return None
        return decode_vocabulary(self.files.read_checked(VOCABULARY, self._vocabulary_crc32))

    def put_vocabulary(self, centres: NDArray[np.float32], chunk: int | None) -> None:
        """Store (words, D) centres and when they were known, see `vocabulary_chunk`.

        If they differ from older ones, all descriptors are to be made anew.
        """
        self._put("vocabulary", VOCABULARY, encode_vocabulary(centres), chunk=chunk)

    def put_no_places(self, reason: str) -> None:
        """Record that there will be no descriptors, and why."""
        event = {"event": "no_places", "reason": reason}
        self._journal.append(**event)
        self.replay_places(event)

    def replay_places(self, event: Mapping[str, Any]) -> None:
        """Take one of PLACE_EVENTS."""
        match event["event"]:
            case "descriptors":
                self._descriptors_crc32[event["index"]] = event["crc32"]
            case "vocabulary":
                if event["crc32"] != self._vocabulary_crc32:
                    self._descriptors_crc32.clear()
                self._vocabulary_crc32, self.vocabulary_chunk = event["crc32"], event["chunk"]
            case "no_places":
                self.no_places = event["reason"]

    def _put(self, event: str, path: str, content: bytes, **fields: Any) -> None:
        """The file first, then its journal line."""
        self.files.write(path, content)
        line = {"event": event, **fields, "file": path, "crc32": zlib.crc32(content)}
        self._journal.append(**line)
        self.replay_places(line)


def descriptors_path(index: int) -> str:
    """Where the place descriptors of a chunk's new frames lie."""
    return f"descriptors/{index:06d}.safetensors"
