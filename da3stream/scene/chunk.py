"""The plan of chunks: how many frames are reconstructed together, and which."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkSizes:
    """How long chunks are."""

    size: int
    """Frames of a chunk, at least 3."""
    overlap: int
    """Frames that it shares with the one before: 1 to size - 2."""

    def __post_init__(self) -> None:
        if not 1 <= self.overlap <= self.size - 2:
            raise ValueError(f"chunks of {self.size} frames cannot share {self.overlap}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Which frames are reconstructed together. A plan: it holds frame indices, no pixels."""

    index: int
    """Position among all chunks, from 0."""
    scale: int = 1
    """Spacing of the frames: 1 for fine chunks, s for coarse ones over every s-th frame."""
    context: tuple[int, ...]
    """Indices of the frames that an earlier chunk already reconstructed."""
    new: tuple[int, ...]
    """Indices of the frames that this chunk is the first to see, and therefore owns."""

    def __post_init__(self) -> None:
        frames = self.context + self.new
        if not frames:
            raise ValueError("a chunk needs at least one frame")
        if len(set(frames)) != len(frames):
            raise ValueError(f"a frame appears twice in chunk {self.index}: {frames}")

    @property
    def frames(self) -> tuple[int, ...]:
        """Indices of all its frames, in the order in which a submap holds them: context, then new."""
        return self.context + self.new

    @property
    def recalled(self) -> tuple[int, ...]:
        """Keyframes from further back, which come first in the context: what is before the `window`."""
        return self.context[: len(self.frames) - len(self.window)]

    @property
    def window(self) -> tuple[int, ...]:
        """The consecutive frames that end with the new ones; all frames of a chunk that owns none."""
        if not self.new:
            return self.frames
        start = len(self.context)
        while start and self.frames[start - 1] == self.frames[start] - 1:
            start -= 1
        return self.frames[start:]
