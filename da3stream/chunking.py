"""Which frames form the next chunk: windows that slide over the frames as they arrive, at two scales."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from da3stream.scene import Chunk, ChunkSizes, Frame

SHORTEST_COARSE_CHUNK = 8
"""Frames; a shorter one spans little more than the fine chunks do."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoadedWindow:
    """Frames that will be a chunk once it is known how many chunks come before it."""

    context: tuple[Frame, ...]
    """Frames that an earlier chunk owns; those that are recalled come first."""
    recalled: int
    """How many are recalled from further back."""
    new: tuple[Frame, ...]
    """Frames that the chunk will own."""

    @property
    def frames(self) -> tuple[Frame, ...]:
        """All of them, in the order in which a chunk has them."""
        return self.context + self.new

    def numbered(self, index: int) -> LoadedChunk:
        """The chunk of these frames."""
        chunk = Chunk(
            index=index,
            context=tuple(frame.index for frame in self.context),
            new=tuple(frame.index for frame in self.new),
        )
        return LoadedChunk(chunk=chunk, frames=self.frames)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoadedChunk:
    """A chunk with its frames in memory."""

    chunk: Chunk
    frames: tuple[Frame, ...]
    """In the order of `chunk.frames`."""

    @property
    def new_frames(self) -> tuple[Frame, ...]:
        """The frames that the chunk owns."""
        return self.frames[len(self.chunk.context) :]


class Chunker:
    """Groups frames into chunks as they arrive; at most one chunk of frames is held.

    Every chunk has `size` frames, of which the first `overlap` belong to the chunk before it. The last one
    may be shorter, but never than overlap + 2 frames (its context then reaches further back) unless the video
    is. Frames that are recalled from further back come before the overlap and take the places of new ones.
    """

    def __init__(
        self,
        frames: Iterable[Frame],
        sizes_of: Callable[[Frame], ChunkSizes],
        recall: Callable[[ChunkSizes, Sequence[Frame]], Sequence[Frame]] | None = None,
    ) -> None:
        """Start with the first chunk.

        Args:
            frames: of the whole video, in order.
            sizes_of: called with the first frame that is new in each chunk.
            recall: called with the sizes of each chunk and the frames that would be new in it; returns
                keyframes from further back in their order, fewer than the new ones.
        """
        self._source = self._frames = iter(frames)
        self._sizes_of, self._recall = sizes_of, recall
        self._context: tuple[Frame, ...] = ()

    def __iter__(self) -> Iterator[LoadedWindow]:
        return self

    def __next__(self) -> LoadedWindow:
        new = [next(self._frames)]
        sizes = self._sizes_of(new[0])
        wanted = sizes.size - len(self._context[-sizes.overlap :])
        while len(new) < wanted and (frame := next(self._frames, None)) is not None:
            new.append(frame)
        # Only the last chunk can have fewer.
        reach = sizes.overlap if len(new) == wanted else max(sizes.overlap, sizes.overlap + 2 - len(new))
        before = self._context[-reach:]
        recalled = tuple(self._recall(sizes, new)) if self._recall else ()
        own = min(len(new), sizes.size - len(recalled) - len(before))
        self._frames = chain(new[own:], self._frames)
        self._context = (*self._context, *new[:own])[-(sizes.overlap + 1) :]
        return LoadedWindow(context=(*recalled, *before), recalled=len(recalled), new=tuple(new[:own]))

    def give_back(self, window: LoadedWindow) -> None:
        """Take the window that came last apart; the next one begins with its new frames."""
        self._frames = chain(window.new, self._frames)
        self._context = window.context[window.recalled :]

    def close(self) -> None:
        """Leave the source, if it can be left early."""
        getattr(self._source, "close", lambda: None)()


class CoarseWindows:
    """Chunks over every s-th frame: they span several fine ones and tie them together.

    Each has as many frames as a fine chunk and shares half of them with the one before.
    """

    def __init__(self, stride: int) -> None:
        """Windows over frames 0, s, 2 s, ..."""
        self.stride = stride
        self._start = self._covered = 0

    def complete(self, frames: int, size: int) -> Iterator[tuple[int, ...]]:
        """The windows of `size` that the first `frames` frames have filled since the last call."""
        while self._start + size <= self._rows(frames):
            yield self._window(self._start, self._start + size)
            self._start += size // 2

    def rest(self, frames: int, size: int) -> Iterator[tuple[int, ...]]:
        """At the end of a video of `frames` frames: a last window over what none has covered."""
        rows = self._rows(frames)
        if rows - self._covered >= max(1, size // 8) and rows >= SHORTEST_COARSE_CHUNK:
            yield self._window(max(0, rows - size), rows)

    def _rows(self, frames: int) -> int:
        return -(-frames // self.stride)

    def _window(self, start: int, stop: int) -> tuple[int, ...]:
        self._covered = stop
        return tuple(row * self.stride for row in range(start, stop))


def window_around(frame: int, size: int, frames: int) -> tuple[int, ...]:
    """`size` consecutive frames around one, all of the first `frames` frames."""
    start = max(0, min(frame - size // 2, frames - size))
    return tuple(range(start, min(start + size, frames)))


def count_chunks(frames: int, sizes: ChunkSizes) -> int:
    """Number of fine chunks that `frames` frames make."""
    step = sizes.size - sizes.overlap
    return 0 if frames == 0 else 1 + max(0, -(-(frames - sizes.size) // step))
