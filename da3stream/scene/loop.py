"""A pair of frames that may show the same place, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopCandidate:
    """Two frames that probably show the same place."""

    later: int
    earlier: int
    similarity: float
    threshold: float
    """What the similarity had to exceed when the pair was chosen."""
    support: int
    """Frames near `later` with a hit near `earlier`, itself included."""

    def __post_init__(self) -> None:
        if not 0 <= self.earlier < self.later:
            raise ValueError(f"a loop joins a later to an earlier frame, got {self.later} and {self.earlier}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoopClosure:
    """A verified candidate: accepted or not, and why."""

    candidate: LoopCandidate
    chunk: int | None
    """Index of the stored chunk of frames from both places that joins them; None if it was rejected."""
    reason: str | None
    """Why it was rejected, in words; None if it was accepted."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What the verdict rests on, in plain JSON values."""

    @property
    def is_accepted(self) -> bool:
        """Whether it may join the two places."""
        return self.reason is None
