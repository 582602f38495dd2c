"""Loading and estimating ahead: in order, bounded, and taken back where a chunk fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import numpy as np
import pytest

from da3stream.chunking import Chunker, LoadedWindow
from da3stream.chunks_ahead import BegunChunk, ChunksAhead
from da3stream.errors import InputError
from da3stream.executors import Estimate
from da3stream.scene import ChunkSizes, Frame

PIXEL = np.zeros((1, 1, 3), dtype=np.uint8)


class Camera:
    """Frames, counted as they are taken."""

    def __init__(self, count: int, fails: bool = False) -> None:
        self.count, self.fails = count, fails
        self.given = 0
        self.is_left = False

    def __iter__(self) -> Iterator[Frame]:
        try:
            for index in range(self.count):
                self.given += 1
                yield Frame(index=index, source_index=index, timestamp_s=float(index), image=PIXEL)
            if self.fails:
                raise InputError("the cable is out")
        finally:
            self.is_left = True


class Begins:
    """Begins chunks; each is estimated when the test says so."""

    def __init__(self) -> None:
        self.futures: list[Future[Estimate]] = []
        self.first_frames: list[int] = []
        self.change = threading.Condition()

    def __call__(self, window: LoadedWindow) -> BegunChunk:
        with self.change:
            future: Future[Estimate] = Future()
            self.futures.append(future)
            self.first_frames.append(window.new[0].index)
            self.change.notify_all()
            return BegunChunk(window=window, estimate=future)

    def wait_for(self, count: int) -> None:
        with self.change:
            assert self.change.wait_for(lambda: len(self.futures) >= count, 60)


def stored(window: LoadedWindow) -> BegunChunk:
    return BegunChunk(window=window, estimate=None)


def ahead_of(
    camera: Camera,
    begin: Callable[[LoadedWindow], BegunChunk],
    *,
    size: int = 6,
    ahead: int = 2,
    capacity: int = 1,
) -> ChunksAhead:
    sizes = ChunkSizes(size=6, overlap=2)
    return ChunksAhead(Chunker(iter(camera), lambda _: sizes), begin, ahead=ahead, capacity=lambda: capacity)


def done(estimate: Future[Estimate] | None) -> None:
    assert estimate is not None
    estimate.set_result(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_chunks_come_in_order(ahead: int) -> None:
    with ahead_of(Camera(30), stored, ahead=ahead) as chunks:
        first = [begun.window.new[0].index for begun in chunks]
        assert next(chunks, None) is None
    assert first == [0, *range(6, 30, 4)]


def test_no_more_is_estimated_than_the_capacity() -> None:
    begins = Begins()
    with ahead_of(Camera(100), begins, ahead=4, capacity=2) as chunks:
        begins.wait_for(2)
        first = next(chunks)
        assert len(begins.futures) == 2
        done(first.estimate)
        begins.wait_for(3)
        assert len(begins.futures) == 3


def test_no_more_is_loaded_than_asked_for() -> None:
    camera = Camera(1000)
    begun = threading.Semaphore(0)

    def begin(window: LoadedWindow) -> BegunChunk:
        begun.release()
        return stored(window)

    with ahead_of(camera, begin, ahead=2) as chunks:
        for taken in range(5):
            assert next(chunks).window.new[0].index == (6 + 4 * (taken - 1) if taken else 0)
        for _ in range(7):
            assert begun.acquire(timeout=60)
    assert camera.given == 6 + 6 * 4


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    """Without looking ahead, a chunk may depend on all that became of the one before."""
    camera = Camera(1000)
    with ahead_of(camera, stored, ahead=0) as chunks:
        next(chunks)
        assert camera.given == 6
        next(chunks)
        assert camera.given == 10


def test_an_error_of_the_source_comes_after_the_chunks_before_it() -> None:
    with ahead_of(Camera(10, fails=True), stored) as chunks:
        assert [next(chunks).window.new[0].index, next(chunks).window.new[0].index] == [0, 6]
        with pytest.raises(InputError, match="cable"):
            next(chunks)


def test_the_source_is_left_when_nobody_wants_more() -> None:
    camera = Camera(1000)
    with ahead_of(camera, Begins()) as chunks:
        next(chunks)
    assert camera.is_left
    assert not [thread for thread in threading.enumerate() if thread.name == "chunks ahead"]


def test_a_chunk_that_failed_is_grouped_anew_with_all_behind_it() -> None:
    size = [12]
    camera, begins = Camera(40), Begins()
    chunker = Chunker(iter(camera), lambda _: ChunkSizes(size=size[0], overlap=2))
    with ChunksAhead(chunker, begins, ahead=3, capacity=lambda: 2) as chunks:
        first = next(chunks)
        begins.wait_for(2)
        done(first.estimate)
        failed = next(chunks)
        assert failed.estimate is not None
        failed.estimate.set_exception(MemoryError())
        begins.wait_for(3)
        behind = begins.futures[2]
        size[0] = 6
        chunks.retry(failed)
        assert behind.cancelled()
        new = []
        for chunk in chunks:
            done(chunk.estimate)
            first_new = chunk.window.new[0].index
            assert [frame.index for frame in chunk.window.context] == [first_new - 2, first_new - 1]
            new += [frame.index for frame in chunk.window.new]
    assert new == list(range(12, 40))


def test_nothing_behind_a_failed_chunk_is_begun() -> None:
    begins = Begins()
    with ahead_of(Camera(100), begins) as chunks:
        failed = next(chunks)
        assert failed.estimate is not None
        failed.estimate.set_exception(MemoryError())
    assert len(begins.futures) == 1


def test_an_error_of_the_source_is_not_lost_by_taking_chunks_back() -> None:
    begins = Begins()
    with ahead_of(Camera(10, fails=True), begins, ahead=3, capacity=3) as chunks:
        failed = next(chunks)
        begins.wait_for(2)
        for thread in threading.enumerate():
            if thread.name == "chunks ahead":
                thread.join(60)
        with pytest.raises(InputError, match="cable"):
            chunks.retry(failed)
