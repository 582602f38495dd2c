"""What passes through the pipes between this process and the decoder process.

A record is a header (kind, length of the fields, length of the payload: little-endian, 16 bytes), the fields
as JSON, and the payload as raw bytes. JSON keeps float64 exactly. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import Enum
from typing import IO, Any

_HEADER = struct.Struct("<4sIQ")


class Kind(Enum):
    """What a record holds."""

    REQUEST = b"RQST"
    """To the decoder: what to do."""
    STOP = b"STOP"
    """To the decoder of a live stream: send what waits, and end."""
    DESCRIPTION = b"DESC"
    """The video, by its container and its first frame."""
    FRAME = b"FRAM"
    """A selected frame; the payload is (H, W, 3) uint8 RGB."""
    IMAGE = b"IMAG"
    """An original image; the payload is a JPEG file."""
    END = b"DONE"
    """All is sent; the fields count what was lost on the way."""
    ERROR = b"FAIL"
    """The input cannot be used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One message."""

    kind: Kind
    fields: dict[str, Any]
    payload: bytearray | memoryview
    """Raw bytes, often none."""


def write_record(
    stream: IO[bytes], kind: Kind, fields: dict[str, Any], payload: memoryview | bytes = b""
) -> None:
    """Write a record; the payload is not copied."""
    size_bytes = payload.nbytes if isinstance(payload, memoryview) else len(payload)
    stream.write(encode_record(kind, fields, size_bytes))
    if size_bytes:
        stream.write(payload)
    stream.flush()


def encode_record(kind: Kind, fields: dict[str, Any], payload_bytes: int = 0) -> bytes:
    """Header and fields of a record."""
    encoded = json.dumps(fields).encode("ascii")
    return _HEADER.pack(kind.value, len(encoded), payload_bytes) + encoded


def read_record(stream: IO[bytes]) -> Record | None:
    """Read a record; None at the end of the stream, also when it ends within a record: its writer has died.

    Raises:
        ValueError: the bytes are no record.
    """
    header = _read_exactly(stream, _HEADER.size)
    if header is None:
        return None
    kind_value, fields_bytes, payload_bytes = _HEADER.unpack(header)
    kind = Kind(kind_value)
    encoded = _read_exactly(stream, fields_bytes)
    payload = None if encoded is None else _read_exactly(stream, payload_bytes)
    if encoded is None or payload is None:
        return None
    return Record(kind=kind, fields=json.loads(encoded), payload=payload)


def _read_exactly(stream: IO[bytes], size_bytes: int) -> bytearray | None:
    buffer = bytearray(size_bytes)
    view = memoryview(buffer)
    done_bytes = 0
    while done_bytes < size_bytes:
        count = stream.readinto(view[done_bytes:])  # type: ignore[attr-defined]  # all binary streams have it
        if not count:
            return None
        done_bytes += count
    return buffer
