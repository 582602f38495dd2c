"""What waits between a camera, which does not wait, and a reader that may be slower."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ThinnedBuffer(Generic[Item]):
    """A queue of bounded length between two threads. When it is full, it is thinned, or its writer waits.

    Thinning drops the item whose two neighbours lie closest together in time: the oldest and the newest
    always stay, and however long the reader takes, the gaps between what waits are about equally long.
    """

    def __init__(self, capacity: int, *, is_thinned: bool) -> None:
        """
        Args:
            capacity: items that wait at most, at least 2.
            is_thinned: drop an item when it is full; otherwise `put` waits.
        """
        self._capacity = capacity
        self.is_thinned = is_thinned
        self._waiting: list[tuple[float, Item]] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._error: BaseException | None = None
        self.put_in = 0
        """Items that were put in, dropped ones included."""
        self.dropped = 0
        """Items that were dropped."""

    def put(self, time_s: float, item: Item) -> None:
        """Add an item whose time comes after all others'. After `close` it is ignored."""
        with self._changed:
            while not (self.is_thinned or self._is_closed) and len(self._waiting) >= self._capacity:
                self._changed.wait()
            if self._is_closed:
                return
            self._waiting.append((time_s, item))
            self.put_in += 1
            if len(self._waiting) > self._capacity:
                del self._waiting[self._least_missed()]
                self.dropped += 1
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """Nothing more comes: the reader gets what waits, then the error, or else the end."""
        with self._changed:
            if not self._is_closed:
                self._is_closed, self._error = True, error
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Items in order, as they come."""
        while True:
            with self._changed:
                while not (self._waiting or self._is_closed):
                    self._changed.wait()
                if not self._waiting:
                    break
                _, item = self._waiting.pop(0)
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error

    def _least_missed(self) -> int:
        """Position of the item that leaves the shortest gap; never the first or the last."""
        times_s = [time_s for time_s, _ in self._waiting]
        return min(range(1, len(times_s) - 1), key=lambda i: times_s[i + 1] - times_s[i - 1])
