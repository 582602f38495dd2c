"""The search for similar frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from da3stream.place.compression import CodeIndex
from da3stream.place.index import MEMORY_BYTES, PlaceIndex

DIM = 64
ALL = 10**6


def walk(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """Unit vectors of a slow random walk: neighbours are alike."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.normal(size=(count, 16)), axis=0) @ rng.normal(size=(16, dim))
    path += rng.normal(size=path.shape)
    return (path / np.linalg.norm(path, axis=1, keepdims=True)).astype(np.float32)


def exact(vectors: np.ndarray, queries: np.ndarray, k: int, before: int) -> np.ndarray:
    similarities = queries @ vectors[:before].astype(np.float16).astype(np.float32).T
    return np.argsort(-similarities, axis=1, kind="stable")[:, :k]


def test_the_flat_search_is_exact(tmp_path: Path) -> None:
    vectors = walk(500)
    index = PlaceIndex(tmp_path / "vectors", DIM)
    index.add(np.arange(500), vectors)
    found = index.search(vectors[::50], 5, before=np.full(10, ALL))
    assert not index.is_compressed
    assert np.array_equal(found.indices, exact(vectors, vectors[::50], 5, 500))
    truth = np.take_along_axis(vectors[::50] @ vectors.T, found.indices, axis=1)
    assert found.similarities == pytest.approx(truth, abs=2e-3)


def test_only_frames_before_the_limit_are_found(tmp_path: Path) -> None:
    vectors = walk(300)
    for memory_bytes in (MEMORY_BYTES, 60_000):
        index = PlaceIndex(tmp_path / "vectors", DIM, memory_bytes=memory_bytes)
        index.add(np.arange(0, 600, 2), vectors)  # every second frame has a descriptor
        found = index.search(vectors[200:203], 4, before=np.array([0, 4, 101]))
        assert found.indices[0].tolist() == [-1] * 4
        assert np.isnan(found.similarities[0]).all()
        searched = [0, 2] if index.stride == 1 else [0]
        assert sorted(found.indices[1]) == [*[-1] * (4 - len(searched)), *searched]
        assert found.indices[2].max() <= 100


def test_the_file_holds_the_descriptors(tmp_path: Path) -> None:
    path, vectors = tmp_path / "vectors", walk(20)
    path.write_bytes(b"of an earlier run")
    index = PlaceIndex(path, DIM)
    index.add(np.arange(15), vectors[:15])
    index.add(np.arange(15, 20), vectors[15:])
    assert len(index) == 20
    assert np.array_equal(np.fromfile(path, np.float16).reshape(-1, DIM), vectors.astype(np.float16))


def test_codes_are_ranked_again_by_the_file(tmp_path: Path) -> None:
    vectors = walk(3000)
    index = PlaceIndex(tmp_path / "vectors", DIM, memory_bytes=400_000)
    index.add(np.arange(1000), vectors[:1000])
    assert not index.is_compressed
    index.add(np.arange(1000, 2500), vectors[1000:2500])
    assert index.is_compressed
    index.add(np.arange(2500, 3000), vectors[2500:])
    queries, kept = vectors[5::97], np.arange(0, 3000, index.stride)
    assert index.stride == 4  # 1,111 codes fit, 1,470 descriptors
    found = index.search(queries, 5, before=np.full(len(queries), ALL))
    truth = kept[exact(vectors[kept], queries, 5, 3000)]
    shared = sum(len({*row} & {*mine}) for row, mine in zip(truth, found.indices, strict=True))
    assert shared >= 0.98 * truth.size
    similarities = np.einsum("nkd,nd->nk", vectors[found.indices], queries)
    assert found.similarities == pytest.approx(similarities, abs=2e-3)


def test_how_frames_are_grouped_into_calls_changes_nothing(tmp_path: Path) -> None:
    vectors, queries = walk(900), walk(900)[::90]
    found = []
    for name, step in (("a", 900), ("b", 7)):
        index = PlaceIndex(tmp_path / name, DIM, memory_bytes=60_000)
        for start in range(0, 900, step):
            index.add(np.arange(start, min(900, start + step)), vectors[start : start + step])
        assert index.is_compressed
        found.append(index.search(queries, 6, before=np.full(10, 800)))
    assert np.array_equal(found[0].indices, found[1].indices)
    assert np.array_equal(found[0].similarities, found[1].similarities)


def test_background_is_spread_over_the_past(tmp_path: Path) -> None:
    vectors = walk(100)
    index = PlaceIndex(tmp_path / "vectors", DIM)
    index.add(np.arange(100), vectors)
    found = index.background(vectors[98:], 4, before=np.array([80, 2]))
    assert found[0] == pytest.approx(vectors[[0, 20, 40, 60]] @ vectors[98], abs=2e-3)
    assert found[1, :2] == pytest.approx(vectors[[0, 1]] @ vectors[99], abs=2e-3)
    assert np.isnan(found[1, 2:]).all()


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    index = PlaceIndex(tmp_path / "vectors", DIM)
    index.add(np.arange(5), walk(5))
    with pytest.raises(ValueError, match="must increase"):
        index.add(np.array([4]), walk(1))
    with pytest.raises(ValueError, match=r"must be \(1, 64\)"):
        index.add(np.array([9]), walk(1, dim=32))
    assert len(index) == 5


def test_codes_take_64_bytes_a_frame_of_any_dimension() -> None:
    """So 200 MB hold more than two days of video at 10 frames/s before frames are left out."""
    codes = CodeIndex(walk(300, dim=1024))
    codes.add(walk(5000, dim=1024))
    assert len(codes) == 5000
    assert codes._codes.nbytes <= 1.3 * 5000 * 64
