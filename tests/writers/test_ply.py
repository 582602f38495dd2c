"""Streamed PLY files, read back by plyfile."""

from __future__ import annotations

import io

import numpy as np
import pytest
from plyfile import PlyData

from da3stream.writers.ply import PointPly


def points(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    positions = rng.normal(scale=100, size=(count, 3)).astype(np.float32)
    return positions, rng.integers(0, 256, (count, 3), dtype=np.uint8)


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("counts", [(), (0,), (1,), (3, 0, 8), (99, 1), (12_345,)])
def test_points_read_back_exactly_however_they_came(encoding, counts):
    stream = io.BytesIO()
    ply = PointPly(stream, encoding)
    parts = [points(count) for count in counts]
    for positions, colors in parts:
        ply.append(positions, colors)
    ply.complete()
    stream.seek(0)
    read = PlyData.read(stream)["vertex"]
    assert len(read) == ply.points == sum(counts)
    empty = np.empty((0, 3))
    expected = np.concatenate([empty, *(positions for positions, _ in parts)])
    assert np.array_equal(np.stack([read[axis] for axis in "xyz"], axis=-1), expected)
    expected = np.concatenate([empty, *(colors for _, colors in parts)])
    assert np.array_equal(np.stack([read[name] for name in ("red", "green", "blue")], axis=-1), expected)


def test_the_binary_layout_is_what_simple_readers_assume():
    stream = io.BytesIO()
    ply = PointPly(stream)
    positions, colors = points(7)
    ply.append(positions, colors)
    ply.complete()
    header, body = stream.getvalue().split(b"end_header\n", 1)
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert [line for line in lines[2:] if not line.startswith("comment ")] == [
        "element vertex 7",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
    ]
    rows = np.frombuffer(body, dtype=[("position", "<f4", 3), ("color", "u1", 3)])
    assert np.array_equal(rows["position"], positions)
    assert np.array_equal(rows["color"], colors)


def test_a_large_part_is_written_whole(monkeypatch):
    monkeypatch.setattr("da3stream.writers.ply._SLICE", 100)
    stream = io.BytesIO()
    ply = PointPly(stream)
    positions, colors = points(250)
    ply.append(positions, colors)
    ply.complete()
    stream.seek(0)
    assert np.array_equal(PlyData.read(stream)["vertex"]["y"], positions[:, 1])
