"""Metadata that cameras write into QuickTime files.

"QuickTime File Format Specification", Apple, "Metadata" (`meta`, `keys`, `ilst`). Telephones put what belongs
to the lens into the `meta` atom of the video's track, which FFmpeg does not tell, and often as a number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MAX_META_BYTES = 1 << 22
"""A larger `meta` atom holds pictures, not text."""
_NUMBERS = {21: "signed", 22: "unsigned"}
"""Well-known types of big-endian integers of 1 to 8 bytes."""
_FLOATS = {23: ">f", 24: ">d"}
_TEXT = 1
_ITEM_HEADER = struct.Struct(">II")
_LONG = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Atom:
    """A piece of a file."""

    kind: bytes
    start: int
    """Of what it holds."""
    stop: int


def quicktime_items(path: Path) -> dict[str, str]:
    """Metadata by key (`com.apple.quicktime.make`), of the file and of its tracks; numbers as text.

    Empty for files that are none of QuickTime or MP4, or damaged.
    """
    try:
        with path.open("rb") as file:
            return dict(_items(file))
    except (OSError, struct.error):
        return {}


def _items(file: BinaryIO) -> Iterator[tuple[str, str]]:
    end = file.seek(0, 2)
    for movie in _atoms(file, 0, end):
        if movie.kind != b"moov":
            continue
        for atom in _atoms(file, movie.start, movie.stop):
            if atom.kind == b"meta":
                yield from _meta_items(file, atom)
            elif atom.kind in (b"trak", b"udta"):
                for inner in _atoms(file, atom.start, atom.stop):
                    if inner.kind == b"meta":
                        yield from _meta_items(file, inner)


def _atoms(file: BinaryIO, start: int, stop: int) -> Iterator[_Atom]:
    """The atoms between two places; a size that cannot be ends them."""
    while start + 8 <= stop:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == _LONG:
            (size,), header = struct.unpack(">Q", file.read(8)), 16
        elif size == 0:  # up to the end
            size = stop - start
        if size < header or start + size > stop:
            return
        yield _Atom(kind=kind, start=start + header, stop=start + size)
        start += size


def _meta_items(file: BinaryIO, meta: _Atom) -> Iterator[tuple[str, str]]:
    """Items whose keys are names; those of iTunes, which are numbers, are others' business."""
    if meta.stop - meta.start > _MAX_META_BYTES:
        return
    file.seek(meta.start)
    # ISO's `meta` begins with version and flags, QuickTime's with its first atom.
    is_full = file.read(8)[4:] != b"hdlr"
    inner = {atom.kind: atom for atom in _atoms(file, meta.start + 4 * is_full, meta.stop)}
    if b"keys" not in inner or b"ilst" not in inner:
        return
    keys = list(_keys(file, inner[b"keys"]))
    for item in _atoms(file, inner[b"ilst"].start, inner[b"ilst"].stop):
        number = int.from_bytes(item.kind, "big")
        for content in _atoms(file, item.start, item.stop):
            value = _value(file, content) if content.kind == b"data" else None
            if value is not None and 1 <= number <= len(keys):
                yield keys[number - 1], value


def _keys(file: BinaryIO, atom: _Atom) -> Iterator[str]:
    """Names, which items call by their place from 1 on."""
    for key in _atoms(file, atom.start + 8, atom.stop):  # after version, flags and count
        file.seek(key.start)
        yield file.read(key.stop - key.start).decode("utf-8", "replace")


def _value(file: BinaryIO, atom: _Atom) -> str | None:
    """What a `data` atom holds, as text; None if that is neither text nor a number."""
    file.seek(atom.start)
    kind, _ = _ITEM_HEADER.unpack(file.read(_ITEM_HEADER.size))
    content = file.read(atom.stop - atom.start - _ITEM_HEADER.size)
    if kind == _TEXT:
        return content.decode("utf-8", "replace").strip("\0 ")
    if kind in _NUMBERS and 1 <= len(content) <= 8:
        return str(int.from_bytes(content, "big", signed=_NUMBERS[kind] == "signed"))
    if kind in _FLOATS and len(content) == struct.calcsize(_FLOATS[kind]):
        return str(struct.unpack(_FLOATS[kind], content)[0])
    return None
