"""Reading headers of safetensors files: everything that the library writes, and nothing that is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from da3stream.errors import WeightsError
from da3stream.estimation.da3.safetensors_file import by_file, read_header, read_headers
from tests.estimation.da3.checkpoint_files import few_arrays, write_weights

FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def encode(header: object, values: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


def entry(start: int, stop: int, **changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [(stop - start) // 4], "data_offsets": [start, stop], **changes}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "model.safetensors", few_arrays())


def test_it_finds_the_bytes_that_the_library_wrote(file: Path) -> None:
    arrays, content = few_arrays(), file.read_bytes()
    records = read_header(file)
    assert records.keys() == arrays.keys()
    for name, record in records.items():
        assert (record.file, record.kind, record.shape) == (file, "F32", arrays[name].shape)
        assert content[record.start : record.stop] == arrays[name].tobytes()


@pytest.mark.parametrize(("kind", "size"), [("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2)])
def test_types(tmp_path: Path, kind: str, size: int) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(encode({"x": entry(0, 6 * size, dtype=kind, shape=[2, 3])}, bytes(6 * size)))
    assert read_header(file)["x"].kind == kind


def test_shards_make_one_checkpoint_and_no_tensor_is_in_two(tmp_path: Path) -> None:
    ones = np.ones(2, np.float32)
    first = write_weights(tmp_path / "1.safetensors", {"b": ones, "a": ones})
    second = write_weights(tmp_path / "2.safetensors", {"c": ones})
    records = read_headers([second, first])
    assert {name: record.file for name, record in records.items()} == {"a": first, "b": first, "c": second}
    places = [(record.file.name, record.start) for _, record in by_file(records)]
    assert places == sorted(places)
    again = write_weights(tmp_path / "3.safetensors", {"a": ones})
    with pytest.raises(WeightsError, match=r"a is in both .*1\.safetensors and .*3\.safetensors"):
        read_headers([first, again])


@given(share=st.floats(0, 1, exclude_max=True))
@FUZZ
def test_a_file_cut_anywhere_is_refused(file: Path, share: float) -> None:
    content = file.read_bytes()
    cut = file.with_name("cut.safetensors")
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=r"cut\.safetensors"):
        read_header(cut)


def test_a_cut_file_says_how_much_is_missing(file: Path) -> None:
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(WeightsError, match=f"incomplete; got {size - 5} bytes; expected {size} bytes.*fetch"):
        read_header(file)


@given(content=st.binary(max_size=300))
@FUZZ
def test_random_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "random.safetensors"
    for start in (b"", (len(content)).to_bytes(8, "little"), (len(content)).to_bytes(8, "little") + b"{"):
        file.write_bytes(start + content)
        with pytest.raises(WeightsError):
            read_header(file)


@given(position=st.integers(8, 200), value=st.integers(0, 255))
@FUZZ
def test_a_changed_header_is_refused_or_stays_within_the_file(file: Path, position: int, value: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] = value
    changed = file.with_name("changed.safetensors")
    changed.write_bytes(content)
    try:
        records = read_header(changed)
    except WeightsError:
        return
    assert all(8 < record.start <= record.stop <= len(content) for record in records.values())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "a header of 0 bytes in a file of 0 bytes"),
        (bytes(100_000), "a header of 0 bytes in a file of 100000 bytes"),
        (b"\xff" * 100, "a header of 18446744073709551615 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html>" + bytes(50), "says? a header"),
        (encode([1, 2]), "no JSON object"),
        ((4).to_bytes(8, "little") + b"{\xff\xfe}", "no JSON"),
        ((200_000).to_bytes(8, "little") + b"[" * 200_000, "no JSON"),
        (encode({"__metadata__": {"format": "pt"}}), "holds no tensors"),
        (encode({"x": 3}), "x has no valid dtype"),
        (encode({"x": {"dtype": "F32"}}), "x has no valid dtype"),
        (encode({"x": entry(0, 4, shape=[-1])}, bytes(4)), "x has no valid dtype"),
        (encode({"x": entry(0, 4, shape=[True])}, bytes(4)), "x has no valid dtype"),
        (encode({"x": entry(0, 4, data_offsets=[0])}, bytes(4)), "x has no valid dtype"),
        (encode({"x": entry(0, 4, dtype="I64", shape=[])}, bytes(4)), "another type; got I64"),
        (encode({"x": entry(0, 4, shape=[2])}, bytes(4)), r"x has 4 bytes, which is not shape \[2\] of F32"),
        (encode({"x": entry(4, 0, shape=[1])}, bytes(4)), "x has -4 bytes"),
        (encode({"x": entry(4, 8)}, bytes(8)), "gap or overlap at byte"),
        (encode({"x": entry(0, 8), "y": entry(4, 12)}, bytes(12)), "gap or overlap"),
        (encode({"x": entry(0, 4)}, bytes(9)), "5 bytes follow the last tensor"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "bad.safetensors"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=reason):
        read_header(file)


def test_a_folder_or_nothing_at_all(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.safetensors"):
        with pytest.raises(WeightsError, match="cannot be read: "):
            read_header(path)
