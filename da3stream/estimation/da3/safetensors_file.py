"""The header of a safetensors file, read without trusting it and without torch.

Format: 8 bytes little-endian length of the header, the header as JSON, then the tensors without gaps
(huggingface.co/docs/safetensors, "Format"). The library of that name maps files into memory, so that a
whole checkpoint counts as resident; `TensorRecord` lets a loader read one tensor at a time instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from da3stream.errors import WeightsError

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
FETCH_AGAIN = "Delete the file and fetch it again: da3stream weights fetch NAME"

VALUE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of a value by the format's name of its type; other types are no weights of a network of ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorRecord:
    """Where one tensor lies.

    Attributes:
        file: the file that holds it.
        kind: type of its values, a key of `VALUE_BYTES`.
        shape: its size along each axis, () for a single value.
        start, stop: byte range in the file, half open.
    """

    file: Path
    kind: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_headers(files: Iterable[Path]) -> dict[str, TensorRecord]:
    """The tensors of all shards of a checkpoint by name.

    Raises:
        WeightsError: a file cannot be read, is damaged, or two of them hold the same tensor.
    """
    records: dict[str, TensorRecord] = {}
    for file in files:
        for name, record in read_header(file).items():
            if name in records:
                raise WeightsError(f"{name} is in both {records[name].file} and {file}", hint=FETCH_AGAIN)
            records[name] = record
    return records


def read_header(file: Path) -> dict[str, TensorRecord]:
    """The tensors of one file by name, in the order of the file; every byte of it is accounted for.

    Raises:
        WeightsError: the file cannot be read, or is no safetensors file, or is damaged or incomplete.
    """
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            entries, origin = _parse(stream, size, file)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}") from error
    records = {name: _record(name, entry, origin, file) for name, entry in entries.items()}
    _check_layout(records, origin, size, file)
    return dict(sorted(records.items(), key=lambda item: item[1].start))


def _parse(stream: BinaryIO, size: int, file: Path) -> tuple[dict[str, Any], int]:
    """The JSON entries of the tensors, and the offset of the first byte after the header."""
    head = stream.read(_LENGTH_BYTES)
    if head == b"version ":
        raise WeightsError(f"{file} is a Git LFS pointer, not the weights", hint="Run `git lfs pull` there.")
    length = int.from_bytes(head, "little")
    if len(head) < _LENGTH_BYTES or not 2 <= length <= min(_MAX_HEADER_BYTES, size - _LENGTH_BYTES):
        raise _damaged(file, f"its first 8 bytes say a header of {length} bytes in a file of {size} bytes")
    try:
        header = json.loads(stream.read(length).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"its header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(file, "its header is no JSON object")
    header.pop("__metadata__", None)
    if not header:
        raise _damaged(file, "it holds no tensors")
    return header, _LENGTH_BYTES + length


def _record(name: str, entry: object, origin: int, file: Path) -> TensorRecord:
    fields = entry if isinstance(entry, Mapping) else {}
    kind, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2 and isinstance(kind, str)):
        raise _damaged(file, f"the entry of {name} has no valid dtype, shape and data_offsets")
    if kind not in VALUE_BYTES:
        raise WeightsError(
            f"{name} in {file} has values of another type", got=kind, expected=list(VALUE_BYTES)
        )
    start, stop = offsets
    if stop - start != prod(shape) * VALUE_BYTES[kind]:
        raise _damaged(file, f"{name} has {stop - start} bytes, which is not shape {shape} of {kind}")
    return TensorRecord(file=file, kind=kind, shape=tuple(shape), start=origin + start, stop=origin + stop)


def _are_sizes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_layout(records: Mapping[str, TensorRecord], origin: int, size: int, file: Path) -> None:
    """The tensors must fill the file from the header to its end, without gaps or overlaps."""
    end = origin
    for start, stop in sorted((record.start, record.stop) for record in records.values()):
        if start != end:
            raise _damaged(file, f"its tensors leave a gap or overlap at byte {end}")
        end = stop
    if end > size:
        raise WeightsError(
            f"{file} is incomplete", got=f"{size} bytes", expected=f"{end} bytes", hint=FETCH_AGAIN
        )
    if end < size:
        raise _damaged(file, f"{size - end} bytes follow the last tensor")


def _damaged(file: Path, reason: str) -> WeightsError:
    return WeightsError(f"{file} is no safetensors file, or a damaged one: {reason}", hint=FETCH_AGAIN)


def by_file(records: Mapping[str, TensorRecord]) -> Iterator[tuple[str, TensorRecord]]:
    """The tensors in the order in which reading them never seeks back."""
    yield from sorted(records.items(), key=lambda item: (str(item[1].file), item[1].start))
