"""The search for similar frames."""

from __future__ import annotations

import numpy as np
import pytest

from da3stream.place.compression import CodeIndex
from da3stream.place.index import PlaceIndex

DIM = 64
ALL = 10**6


def walk(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """Unit vectors of a slow random walk: neighbours are alike."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.normal(size=(count, 16)), axis=0) @ rng.normal(size=(16, dim))
    path += rng.normal(size=path.shape)
    return (path / np.linalg.norm(path, axis=1, keepdims=True)).astype(np.float32)


def index_of(vectors: np.ndarray, **options: int) -> PlaceIndex:
    """An empty index of frames 0, 1, ... whose descriptors are stored already."""
    stored = vectors.astype(np.float16).astype(np.float32)
    return PlaceIndex(lambda frames: stored[frames], **options)


def exact(vectors: np.ndarray, queries: np.ndarray, k: int, before: int) -> np.ndarray:
    similarities = queries @ vectors[:before].astype(np.float16).astype(np.float32).T
    return np.argsort(-similarities, axis=1, kind="stable")[:, :k]


def test_the_flat_search_is_exact() -> None:
    vectors = walk(500)
    index = index_of(vectors)
    index.add(np.arange(500))
    found = index.search(vectors[::50], 5, before=np.full(10, ALL))
    assert not index.is_compressed
    assert np.array_equal(found.indices, exact(vectors, vectors[::50], 5, 500))
    truth = np.take_along_axis(vectors[::50] @ vectors.T, found.indices, axis=1)
    assert found.similarities == pytest.approx(truth, abs=2e-3)


@pytest.mark.parametrize("options", [{}, {"exact_frames": 50}, {"exact_frames": 50, "most_codes": 117}])
def test_only_frames_before_the_limit_are_found(options: dict[str, int]) -> None:
    vectors = walk(600)
    index = index_of(vectors, **options)
    index.add(np.arange(0, 600, 2))  # every second frame has a descriptor
    found = index.search(vectors[200:203], 4, before=np.array([0, 4, 101]))
    assert found.indices[0].tolist() == [-1] * 4
    assert np.isnan(found.similarities[0]).all()
    searched = [0, 2] if index.stride == 1 else [0]
    assert sorted(found.indices[1]) == [*[-1] * (4 - len(searched)), *searched]
    assert found.indices[2].max() <= 100
    assert found.indices[2].min() >= 0


def test_an_empty_index_finds_nothing() -> None:
    index = index_of(walk(3))
    found = index.search(walk(3), 2, before=np.full(3, ALL))
    assert found.indices.tolist() == [[-1, -1]] * 3
    assert np.isnan(index.background(walk(3), 2, before=ALL)).all()


def test_codes_are_ranked_again_by_the_descriptors() -> None:
    vectors = walk(3000)
    index = index_of(vectors, exact_frames=1000, most_codes=1000)
    index.add(np.arange(1000))
    assert not index.is_compressed
    index.add(np.arange(1000, 2500))
    assert index.is_compressed
    index.add(np.arange(2500, 3000))
    queries, kept = vectors[5::97], np.arange(0, 3000, index.stride)
    assert index.stride == 4  # 1,000 codes fit
    found = index.search(queries, 5, before=np.full(len(queries), ALL))
    truth = kept[exact(vectors[kept], queries, 5, 3000)]
    shared = sum(len({*row} & {*mine}) for row, mine in zip(truth, found.indices, strict=True))
    assert shared >= 0.98 * truth.size
    similarities = np.einsum("nkd,nd->nk", vectors[found.indices], queries)
    assert found.similarities == pytest.approx(similarities, abs=2e-3)


def test_what_the_codes_were_not_learnt_from_is_found_too() -> None:
    """The axes come from the first frames; the last ones differ from them in all respects but a few."""
    vectors = np.concatenate([walk(300, seed=1, dim=512), walk(1500, seed=2, dim=512)])
    index = index_of(vectors, exact_frames=300)
    index.add(np.arange(1800))
    queries = np.arange(400, 1800, 50)
    found = index.search(vectors[queries], 1, before=np.full(len(queries), ALL))
    assert np.array_equal(found.indices[:, 0], queries)


@pytest.mark.parametrize("options", [{"exact_frames": 100}, {"exact_frames": 100, "most_codes": 195}])
def test_how_frames_are_grouped_into_calls_changes_nothing(options: dict[str, int]) -> None:
    vectors, queries = walk(900), walk(900)[::90]
    found = []
    for step in (900, 7):
        index = index_of(vectors, **options)
        for start in range(0, 900, step):
            index.add(np.arange(start, min(900, start + step)))
        assert index.is_compressed
        found.append(index.search(queries, 6, before=np.full(10, 800)))
    assert np.array_equal(found[0].indices, found[1].indices)
    assert np.array_equal(found[0].similarities, found[1].similarities)


def test_a_descriptor_is_read_once_for_all_queries() -> None:
    vectors, read = walk(1000), []
    index = PlaceIndex(lambda frames: (read.extend(frames), vectors[frames])[1], exact_frames=100)
    index.add(np.arange(1000))
    read.clear()
    index.search(vectors[500:510], 5, before=np.full(10, 450))
    assert len(read) == len(set(read)) < 400


def test_background_is_spread_over_the_past() -> None:
    vectors = walk(100)
    index = index_of(vectors)
    index.add(np.arange(100))
    found = index.background(vectors[98:], 4, before=80)
    assert found == pytest.approx(vectors[98:] @ vectors[[0, 20, 40, 60]].T, abs=2e-3)
    few = index.background(vectors[98:], 4, before=2)
    assert few[:, :2] == pytest.approx(vectors[98:] @ vectors[:2].T, abs=2e-3)
    assert np.isnan(few[:, 2:]).all()


def test_wrong_use_is_refused() -> None:
    index = index_of(walk(10))
    index.add(np.arange(5))
    for wrong in ([4], [6, 6]):
        with pytest.raises(ValueError, match="must increase"):
            index.add(np.array(wrong))
    assert len(index) == 5


def test_codes_take_256_bytes_a_frame_of_any_dimension() -> None:
    """So 200 MB hold more than ten hours of video at 10 frames/s before frames are left out."""
    vectors = walk(10_000, dim=1024)
    codes = CodeIndex(vectors[:300])
    codes.add(codes.encode(vectors))
    assert len(codes) == 10_000
    assert sum(array.nbytes for array in codes._arrays) <= 1.3 * 10_000 * 256
