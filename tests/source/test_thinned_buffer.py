"""What is dropped when a reader is slower than a camera."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from da3stream.source.thinned_buffer import ThinnedBuffer


@pytest.mark.parametrize("frames", [5, 10, 11, 17, 40, 333])
def test_thinning_keeps_the_ends_and_even_gaps(frames: int) -> None:
    buffer: ThinnedBuffer[int] = ThinnedBuffer(10, is_thinned=True)
    for index in range(frames):
        buffer.put(index / 30, index)
    buffer.close()
    kept = list(buffer)
    assert len(kept) == min(frames, 10)
    assert (buffer.put_in, buffer.dropped) == (frames, frames - len(kept))
    assert (kept[0], kept[-1]) == (0, frames - 1)
    gaps = np.diff(kept)
    assert gaps.min() >= 1
    assert gaps.max() <= 2 * gaps.mean() + 1


def test_a_reader_that_keeps_up_gets_everything() -> None:
    buffer: ThinnedBuffer[int] = ThinnedBuffer(2, is_thinned=True)
    items = iter(buffer)
    for index in range(50):
        buffer.put(float(index), index)
        assert next(items) == index
    assert buffer.dropped == 0


def test_a_writer_that_waits_loses_nothing() -> None:
    buffer: ThinnedBuffer[int] = ThinnedBuffer(3, is_thinned=False)

    def write() -> None:
        for index in range(100):
            buffer.put(float(index), index)
        buffer.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert list(buffer) == list(range(100))
    writer.join()
    assert buffer.dropped == 0


def test_closing_wakes_a_waiting_writer_and_what_waits_is_given_out() -> None:
    buffer: ThinnedBuffer[int] = ThinnedBuffer(2, is_thinned=False)

    def write() -> None:
        for index in range(5):
            buffer.put(float(index), index)

    writer = threading.Thread(target=write)
    writer.start()
    while buffer.put_in < 2:
        pass
    buffer.close()
    writer.join()
    assert list(buffer) == [0, 1]


def test_an_error_comes_after_what_waits() -> None:
    buffer: ThinnedBuffer[int] = ThinnedBuffer(4, is_thinned=True)
    buffer.put(0.0, 7)
    buffer.close(ValueError("broken"))
    items = iter(buffer)
    assert next(items) == 7
    with pytest.raises(ValueError, match="broken"):
        next(items)
