"""Which frames form the next chunk: a window that slides over the frames as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from da3stream.scene import Chunk, ChunkSizes, Frame


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
    is.
    """

    def __init__(self, frames: Iterable[Frame], sizes_of: Callable[[int, Frame], ChunkSizes]) -> None:
        """Start with the first chunk.

        Args:
            frames: of the whole video, in order.
            sizes_of: called with the index of each chunk and the first frame that is new in it.
        """
        self._frames = iter(frames)
        self._sizes_of = sizes_of
        self._context: tuple[Frame, ...] = ()
        self._index = 0

    def __iter__(self) -> Iterator[LoadedChunk]:
        return self

    def __next__(self) -> LoadedChunk:
        new = [next(self._frames)]
        sizes = self._sizes_of(self._index, new[0])
        wanted = sizes.size - len(self._context[-sizes.overlap :])
        while len(new) < wanted and (frame := next(self._frames, None)) is not None:
            new.append(frame)
        # Only the last chunk can have fewer.
        reach = sizes.overlap if len(new) == wanted else max(sizes.overlap, sizes.overlap + 2 - len(new))
        loaded = _load(self._index, self._context[-reach:], new)
        self._context = (*self._context, *new)[-(sizes.overlap + 1) :]
        self._index += 1
        return loaded

    def give_back(self, loaded: LoadedChunk) -> None:
        """Take the chunk that came last apart; the next one has its index and begins with its new frames."""
        self._frames = chain(loaded.new_frames, self._frames)
        self._context = loaded.frames[: len(loaded.chunk.context)]
        self._index = loaded.chunk.index


def count_chunks(frames: int, sizes: ChunkSizes) -> int:
    """Number of chunks that `frames` frames make."""
    step = sizes.size - sizes.overlap
    return 0 if frames == 0 else 1 + max(0, -(-(frames - sizes.size) // step))


def _load(index: int, context: Iterable[Frame], new: list[Frame]) -> LoadedChunk:
    context = tuple(context)
    chunk = Chunk(
        index=index, context=tuple(frame.index for frame in context), new=tuple(frame.index for frame in new)
    )
    return LoadedChunk(chunk=chunk, frames=(*context, *new))
