"""Which frames form the next chunk: a window that slides over the frames as they arrive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from da3stream.config import ChunkingConfig
from da3stream.scene import Chunk, Frame


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


def chunk_frames(frames: Iterable[Frame], config: ChunkingConfig) -> Iterator[LoadedChunk]:
    """Group frames into chunks as they arrive; at most one chunk of frames is held.

    Every chunk has `chunk_size` frames, of which the first `overlap` belong to the chunk before it. The last
    one may be shorter, but never than overlap + 2 frames (its context then reaches further back) unless the
    video is.
    """
    size, overlap = config.chunk_size, config.overlap_frames
    context: list[Frame] = []
    new: list[Frame] = []
    index = 0
    for frame in frames:
        new.append(frame)
        if len(context[-overlap:]) + len(new) == size:
            yield _load(index, context[-overlap:], new)
            context, new, index = [*context, *new][-(overlap + 1) :], [], index + 1
    if new:
        yield _load(index, context[-max(overlap, overlap + 2 - len(new)) :], new)


def count_chunks(frames: int, config: ChunkingConfig) -> int:
    """Number of chunks that `frames` frames make."""
    step = config.chunk_size - config.overlap_frames
    return 0 if frames == 0 else 1 + max(0, -(-(frames - config.chunk_size) // step))


def _load(index: int, context: list[Frame], new: list[Frame]) -> LoadedChunk:
    chunk = Chunk(
        index=index, context=tuple(frame.index for frame in context), new=tuple(frame.index for frame in new)
    )
    return LoadedChunk(chunk=chunk, frames=(*context, *new))
