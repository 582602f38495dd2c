"""Chunk plans, for every length, chunk size and overlap."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.chunking import LoadedChunk, chunk_frames, count_chunks
from da3stream.config import ChunkingConfig
from da3stream.scene import Frame

LAW = settings(max_examples=150, deadline=None)
PIXEL = np.zeros((1, 1, 3), dtype=np.uint8)


@st.composite
def configs(draw: st.DrawFn) -> ChunkingConfig:
    size = draw(st.integers(3, 24))
    return ChunkingConfig(chunk_size=size, overlap=draw(st.none() | st.integers(1, size - 2)))


def frames_of(count: int) -> Iterator[Frame]:
    return (Frame(index=i, source_index=i, timestamp_s=float(i), image=PIXEL) for i in range(count))


def plan(count: int, config: ChunkingConfig) -> list[LoadedChunk]:
    return list(chunk_frames(frames_of(count), config))


@LAW
@given(st.integers(0, 150), configs())
def test_new_frames_partition_the_video_in_order(count: int, config: ChunkingConfig) -> None:
    chunks = plan(count, config)
    assert [frame for loaded in chunks for frame in loaded.chunk.new] == list(range(count))
    assert [loaded.chunk.index for loaded in chunks] == list(range(len(chunks)))
    assert all(loaded.chunk.new and loaded.chunk.scale == 1 for loaded in chunks)


@LAW
@given(st.integers(1, 150), configs())
def test_context_is_what_comes_right_before(count: int, config: ChunkingConfig) -> None:
    first, *later = plan(count, config)
    assert first.chunk.context == ()
    for loaded in later:
        begins = loaded.chunk.new[0]
        assert loaded.chunk.context == tuple(range(begins - len(loaded.chunk.context), begins))
    for loaded in later[:-1]:
        assert len(loaded.chunk.context) == config.overlap_frames


@LAW
@given(st.integers(1, 150), configs())
def test_consecutive_chunks_share_at_least_the_overlap(count: int, config: ChunkingConfig) -> None:
    chunks = plan(count, config)
    for earlier, later in pairwise(chunks):
        assert set(later.chunk.context) <= set(earlier.chunk.frames)
        assert len(later.chunk.context) >= config.overlap_frames


@LAW
@given(st.integers(1, 150), configs())
def test_only_the_last_chunk_is_shorter_and_never_too_short(count: int, config: ChunkingConfig) -> None:
    lengths = [len(loaded.chunk.frames) for loaded in plan(count, config)]
    assert all(length == config.chunk_size for length in lengths[:-1])
    assert min(count, config.overlap_frames + 2) <= lengths[-1] <= config.chunk_size


@LAW
@given(st.integers(0, 150), configs())
def test_count_chunks_agrees_with_the_plan(count: int, config: ChunkingConfig) -> None:
    assert count_chunks(count, config) == len(plan(count, config))


@LAW
@given(st.integers(1, 60), configs())
def test_loaded_frames_are_those_of_the_plan(count: int, config: ChunkingConfig) -> None:
    for loaded in plan(count, config):
        assert tuple(frame.index for frame in loaded.frames) == loaded.chunk.frames
        assert tuple(frame.index for frame in loaded.new_frames) == loaded.chunk.new


@pytest.mark.parametrize(("size", "overlap"), [(10, None), (10, 1), (10, 8), (3, 1)])
def test_at_most_one_chunk_of_frames_is_alive(size: int, overlap: int | None) -> None:
    """While the source yields its next frame, a consumer that has let go of its chunk leaves little alive."""
    images: list[weakref.ref[np.ndarray]] = []
    most = 0

    def source() -> Iterator[Frame]:
        nonlocal most
        for index in range(100):
            image = PIXEL.copy()
            images.append(weakref.ref(image))
            yield Frame(index=index, source_index=index, timestamp_s=0.0, image=image)
            del image
            most = max(most, sum(image() is not None for image in images))

    for loaded in chunk_frames(source(), ChunkingConfig(chunk_size=size, overlap=overlap)):
        del loaded
    assert 0 < most <= size


def test_a_chunk_comes_as_soon_as_its_last_frame_has() -> None:
    taken: list[int] = []

    def source() -> Iterator[Frame]:
        for frame in frames_of(100):
            taken.append(frame.index)
            yield frame

    chunks = chunk_frames(source(), ChunkingConfig(chunk_size=10, overlap=4))
    next(chunks)
    assert len(taken) == 10
    next(chunks)
    assert len(taken) == 16
