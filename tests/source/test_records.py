"""The pipe protocol."""

from __future__ import annotations

import io

import numpy as np
import pytest

from da3stream.source.records import Kind, read_record, write_record


def written() -> bytes:
    stream = io.BytesIO()
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    write_record(stream, Kind.FRAME, {"timestamp_s": 0.1 + 0.2, "path": "caf\udce9"}, image.data.cast("B"))
    write_record(stream, Kind.END, {})
    return stream.getvalue()


def test_round_trip_keeps_floats_bytes_and_odd_file_names() -> None:
    stream = io.BytesIO(written())
    first, second, end = read_record(stream), read_record(stream), read_record(stream)
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind, end) == (Kind.FRAME, Kind.END, None)
    assert first.fields == {"timestamp_s": 0.1 + 0.2, "path": "caf\udce9"}
    assert bytes(first.payload) == bytes(range(12))


def test_a_stream_that_breaks_off_anywhere_ends_there() -> None:
    whole = written()
    first_bytes = len(whole) - 18  # the second record: a header of 16 bytes and `{}`
    for size in range(first_bytes):
        assert read_record(io.BytesIO(whole[:size])) is None


def test_something_else_is_no_record() -> None:
    with pytest.raises(ValueError):
        read_record(io.BytesIO(b"hello world, this is no record at all"))
