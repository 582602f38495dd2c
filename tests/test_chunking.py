"""Chunk plans, for every length, chunk size and overlap."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.chunking import (
    Chunker,
    CoarseWindows,
    LoadedChunk,
    LoadedWindow,
    count_chunks,
    window_around,
)
from da3stream.scene import ChunkSizes, Frame

LAW = settings(max_examples=150, deadline=None)
PIXEL = np.zeros((1, 1, 3), dtype=np.uint8)


@st.composite
def sizes_of_chunks(draw: st.DrawFn) -> ChunkSizes:
    size = draw(st.integers(3, 24))
    return ChunkSizes(size=size, overlap=draw(st.integers(1, size - 2)))


def frames_of(count: int) -> Iterator[Frame]:
    return (Frame(index=i, source_index=i, timestamp_s=float(i), image=PIXEL) for i in range(count))


def chunker(frames: Iterable[Frame], sizes: ChunkSizes) -> Chunker:
    return Chunker(frames, lambda _frame: sizes)


def numbered(windows: Iterable[LoadedWindow]) -> list[LoadedChunk]:
    return [window.numbered(index) for index, window in enumerate(windows)]


def plan(count: int, sizes: ChunkSizes) -> list[LoadedChunk]:
    return numbered(chunker(frames_of(count), sizes))


@LAW
@given(st.integers(0, 150), sizes_of_chunks())
def test_new_frames_partition_the_video_in_order(count: int, sizes: ChunkSizes) -> None:
    chunks = plan(count, sizes)
    assert [frame for loaded in chunks for frame in loaded.chunk.new] == list(range(count))
    assert [loaded.chunk.index for loaded in chunks] == list(range(len(chunks)))
    assert all(loaded.chunk.new and loaded.chunk.scale == 1 for loaded in chunks)


@LAW
@given(st.integers(1, 150), sizes_of_chunks())
def test_context_is_what_comes_right_before(count: int, sizes: ChunkSizes) -> None:
    first, *later = plan(count, sizes)
    assert first.chunk.context == ()
    for loaded in later:
        begins = loaded.chunk.new[0]
        assert loaded.chunk.context == tuple(range(begins - len(loaded.chunk.context), begins))
    for loaded in later[:-1]:
        assert len(loaded.chunk.context) == sizes.overlap


@LAW
@given(st.integers(1, 150), sizes_of_chunks())
def test_consecutive_chunks_share_at_least_the_overlap(count: int, sizes: ChunkSizes) -> None:
    chunks = plan(count, sizes)
    for earlier, later in pairwise(chunks):
        assert set(later.chunk.context) <= set(earlier.chunk.frames)
        assert len(later.chunk.context) >= sizes.overlap


@LAW
@given(st.integers(1, 150), sizes_of_chunks())
def test_only_the_last_chunk_is_shorter_and_never_too_short(count: int, sizes: ChunkSizes) -> None:
    lengths = [len(loaded.chunk.frames) for loaded in plan(count, sizes)]
    assert all(length == sizes.size for length in lengths[:-1])
    assert min(count, sizes.overlap + 2) <= lengths[-1] <= sizes.size


@LAW
@given(st.integers(0, 150), sizes_of_chunks())
def test_count_chunks_agrees_with_the_plan(count: int, sizes: ChunkSizes) -> None:
    assert count_chunks(count, sizes) == len(plan(count, sizes))


@LAW
@given(st.integers(1, 60), sizes_of_chunks())
def test_loaded_frames_are_those_of_the_plan(count: int, sizes: ChunkSizes) -> None:
    for loaded in plan(count, sizes):
        assert tuple(frame.index for frame in loaded.frames) == loaded.chunk.frames
        assert tuple(frame.index for frame in loaded.new_frames) == loaded.chunk.new


@pytest.mark.parametrize(("size", "overlap"), [(10, 5), (10, 1), (10, 8), (3, 1)])
def test_at_most_one_chunk_of_frames_is_alive(size: int, overlap: int) -> None:
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

    for window in chunker(source(), ChunkSizes(size=size, overlap=overlap)):
        del window
    assert 0 < most <= size


def test_a_chunk_comes_as_soon_as_its_last_frame_has() -> None:
    taken: list[int] = []

    def source() -> Iterator[Frame]:
        for frame in frames_of(100):
            taken.append(frame.index)
            yield frame

    chunks = chunker(source(), ChunkSizes(size=10, overlap=4))
    next(chunks)
    assert len(taken) == 10
    next(chunks)
    assert len(taken) == 16


def test_the_sizes_are_asked_for_when_a_chunk_begins() -> None:
    asked: list[int] = []

    def sizes_of(frame: Frame) -> ChunkSizes:
        asked.append(frame.index)
        return ChunkSizes(size=10, overlap=4) if frame.index < 16 else ChunkSizes(size=5, overlap=2)

    assert [len(window.frames) for window in Chunker(frames_of(24), sizes_of)] == [10, 10, 5, 5, 4]
    assert asked == [0, 10, 16, 19, 22]


@LAW
@given(st.integers(1, 80), st.integers(0, 5), st.integers(0, 3), sizes_of_chunks())
def test_chunks_that_were_too_long_come_again_shorter(
    count: int, wrong: int, behind: int, sizes: ChunkSizes
) -> None:
    """The chunks are those that the smaller sizes would have given from this chunk on in the first place."""
    size = max(3, sizes.size // 2)
    smaller = ChunkSizes(size=size, overlap=min(sizes.overlap, size - 2))
    current = sizes
    chunks = Chunker(frames_of(count), lambda _frame: current)
    seen = list(itertools.islice(chunks, wrong))
    taken_back = list(itertools.islice(chunks, 1 + behind))
    for window in reversed(taken_back):
        chunks.give_back(window)
    current = smaller
    seen.extend(chunks)
    first_wrong = taken_back[0].new[0].index if taken_back else count
    planned = Chunker(frames_of(count), lambda frame: sizes if frame.index < first_wrong else smaller)
    assert [loaded.chunk for loaded in numbered(seen)] == [loaded.chunk for loaded in numbered(planned)]


@LAW
@given(st.integers(1, 120), sizes_of_chunks(), st.integers(0, 9), st.integers(0, 5))
def test_recalled_keyframes_take_the_places_of_new_frames(
    count: int, sizes: ChunkSizes, most: int, wrong: int
) -> None:
    """With one chunk that is given back on the way."""
    stored = list(frames_of(count))
    windows: list[LoadedWindow] = []

    def recall(sizes: ChunkSizes, new: Sequence[Frame]) -> list[Frame]:
        room = min(most, len(windows), (sizes.size - sizes.overlap - 1) // 2)
        return stored[: max(0, new[0].index - sizes.size + 1)][:room]

    chunks = Chunker(stored, lambda _frame: sizes, recall)
    for window in chunks:
        if len(windows) == wrong:
            chunks.give_back(window)
            wrong = -1
        else:
            windows.append(window)
    seen = [loaded.chunk for loaded in numbered(windows)]
    assert [frame for chunk in seen for frame in chunk.new] == list(range(count))
    for window, before, chunk in zip(windows[1:], seen, seen[1:], strict=False):
        assert len(chunk.frames) <= sizes.size
        assert len(chunk.window) - len(chunk.new) >= sizes.overlap
        assert chunk.window[0] >= before.window[0]
        assert chunk.recalled == tuple(range(window.recalled))


def test_leaving_early_closes_the_source() -> None:
    source = frames_of(100)
    chunks = chunker(source, ChunkSizes(size=10, overlap=4))
    next(chunks)
    chunks.close()
    assert next(source, None) is None


def coarse_windows(frames: int, stride: int, size: int, arrivals: Iterable[int]) -> list[tuple[int, ...]]:
    """All windows of a video whose frames have arrived in portions."""
    windows = CoarseWindows(stride)
    made = [window for arrived in arrivals for window in windows.complete(arrived, size)]
    return [*made, *windows.complete(frames, size), *windows.rest(frames, size)]


@LAW
@given(st.integers(0, 2000), st.integers(2, 9), st.integers(8, 30), st.integers(1, 200))
def test_coarse_windows_cover_every_sth_frame_however_the_frames_arrive(
    frames: int, stride: int, size: int, portion: int
) -> None:
    windows = coarse_windows(frames, stride, size, range(portion, frames, portion))
    assert windows == coarse_windows(frames, stride, size, [])
    assert all(8 <= len(window) <= size and window[-1] < frames for window in windows)
    assert all(set(np.diff(window)) <= {stride} and window[0] % stride == 0 for window in windows)
    for earlier, later in pairwise(windows):
        assert len(set(earlier) & set(later)) >= size // 2
    rows = len(range(0, frames, stride))
    uncovered = rows - len({frame for window in windows for frame in window})
    assert uncovered < max(8, size // 8)


def test_a_coarse_window_comes_as_soon_as_its_frames_are_there() -> None:
    windows = CoarseWindows(8)
    assert list(windows.complete(472, 60)) == []
    assert list(windows.complete(473, 60)) == [tuple(range(0, 480, 8))]
    assert list(windows.complete(712, 60)) == []
    assert [window[0] for window in windows.complete(713, 60)] == [240]
    assert list(windows.rest(730, 60)) == []
    assert [window[-1] for window in windows.rest(1000, 60)] == [992]


@pytest.mark.parametrize(
    ("frame", "frames", "expected"),
    [(50, 100, range(44, 56)), (2, 100, range(12)), (99, 100, range(88, 100)), (3, 7, range(7))],
)
def test_a_window_around_a_frame_stays_inside_the_video(frame: int, frames: int, expected: range) -> None:
    assert window_around(frame, 12, frames) == tuple(expected)
