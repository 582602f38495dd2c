"""What the pipeline asks of a source of frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from da3stream.scene import Frame


@runtime_checkable
class FrameSource(Protocol):
    """A source of selected frames at processing resolution, in order. Iterating again starts afresh.

    A source may also have `warnings: list[str]`: what was lost or repaired, complete once an iteration has
    ended; and `stop()`: called from another thread when no more frames are wanted, to end what it waits for.
    """

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames with index 0, 1, 2, ..."""
        ...

    def size_hint(self) -> int | None:
        """Estimated number of frames, or None if it cannot be known."""
        ...

    def identity(self) -> str:
        """A string that is equal for equal content and selection; resuming compares it."""
        ...


@runtime_checkable
class CapturesOnce(FrameSource, Protocol):
    """A source whose frames come only once: they are recorded before anything is made of them."""

    @property
    def is_capturing(self) -> bool:
        """Whether frames still come in."""
        ...

    def stop(self) -> None:
        """End the iteration as if the source had ended. Called from any thread."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class OriginalImage:
    """An image at the user's resolution, as an encoded file."""

    source_index: int
    suffix: str
    """`.jpg` or `.png`: the format of `data`."""
    data: bytes


@runtime_checkable
class HasOriginals(Protocol):
    """A source that can be read a second time at the user's resolution."""

    def originals(self, source_indices: Iterable[int]) -> Iterator[OriginalImage]:
        """Yield the images with these ascending source indices."""
        ...
