"""Messages between the estimator and its worker processes: a line of JSON and arrays as safetensors, never
pickle.

Layout: four bytes that mark a message, two little-endian uint64 (bytes of JSON, bytes of safetensors), the
JSON, the safetensors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

_HEADER = struct.Struct("<4sQQ")
_MARK = b"D3SM"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Message:
    """A request or a reply."""

    fields: Mapping[str, Any]
    """Plain JSON values."""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def write_message(stream: IO[bytes], message: Message) -> None:
    """Write and flush one message.

    Raises:
        OSError: the other side has gone.
    """
    text = json.dumps(dict(message.fields)).encode()
    arrays = safetensors.numpy.save(
        {name: np.ascontiguousarray(array) for name, array in message.arrays.items()}
    )
    stream.write(_HEADER.pack(_MARK, len(text), len(arrays)) + text + arrays)
    stream.flush()


def read_message(stream: IO[bytes]) -> Message | None:
    """The next message, or None at the end of the stream, also in the middle of a message.

    Raises:
        ValueError: the bytes are no message.
    """
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    mark, text_bytes, array_bytes = _HEADER.unpack(header)
    if mark != _MARK:
        raise ValueError(f"no message begins with {header!r}")
    body = stream.read(text_bytes + array_bytes)
    if len(body) < text_bytes + array_bytes:
        return None
    try:
        arrays = safetensors.numpy.load(body[text_bytes:])
    except safetensors.SafetensorError as error:
        raise ValueError(f"the arrays of a message cannot be read: {error}") from error
    return Message(fields=json.loads(body[:text_bytes]), arrays=arrays)
