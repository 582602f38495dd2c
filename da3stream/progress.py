"""What a run tells whoever is watching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["start", "estimation", "outputs", "done"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """One step of a run."""

    stage: Stage
    chunk: int = 0
    """Chunks done in this stage."""
    chunks: int | None = None
    """Chunks in all, as far as it is known."""
    frames: int = 0
    """Frames done in this stage."""
    frames_total: int | None = None
    """Frames in all, as far as it is known."""
    reused: bool = False
    """The step was taken from an earlier, interrupted run."""
    message: str | None = None
    """A line for the user: a decision or a warning."""


ProgressCallback = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Nobody is watching."""
