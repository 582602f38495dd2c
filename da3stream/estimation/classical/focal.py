"""An unknown focal length: hypotheses, the choice between them, and whether the choice leaves doubt.

All images share one focal and square pixels; the principal point is the centre of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.mapping import Attempt, Candidate, Mapping, scale_focal

FOCAL_GUESS = 0.8
"""Of the long side: what an unknown focal is taken for until a chunk settles it."""
FOCAL_HYPOTHESES = (0.55, 0.8, 1.15)
"""Of the long side; each is mapped with the focal fixed, then adjusted with it free."""
PROFILE_FACTORS = (0.8, 1.25)
"""A settled focal must explain the matches better than these multiples of itself."""
SETTLED_MARGIN = 0.01
"""By how much of the epipolar score it must."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FocalChoice:
    """The reconstruction to keep and what it says of the focal."""

    chosen: Candidate | None
    """None: nothing could be reconstructed."""
    settled: bool
    """True if the focal was unknown and the chunk leaves no doubt about it."""
    attempt: Attempt
    """All candidates, and the warnings."""


def guess_intrinsics(size: tuple[int, int]) -> NDArray[np.float64]:
    """(3, 3) intrinsics to start from for images of (width, height)."""
    focal = FOCAL_GUESS * max(size)
    return np.array([[focal, 0.0, size[0] / 2], [0.0, focal, size[1] / 2], [0.0, 0.0, 1.0]])


def find_focal(mapping: Mapping, *, known: bool) -> FocalChoice:
    """Reconstruct with the known focal, or with hypotheses about the unknown one.

    Kept is the guess, unless another focal is clearly better: chunks that cannot tell must at least agree.
    """
    if known:
        attempt = mapping.reconstruct()
        return FocalChoice(chosen=attempt.best, settled=False, attempt=attempt)
    guessed = mapping.reconstruct()
    others = mapping.reconstruct([each / FOCAL_GUESS for each in FOCAL_HYPOTHESES if each != FOCAL_GUESS])
    freed = mapping.adjust((guessed + others).candidates, free_focal=True)
    attempt = guessed + others + freed
    best = freed.best
    if best is None:
        return FocalChoice(chosen=attempt.best, settled=False, attempt=attempt)
    rivals = mapping.adjust(_with_focal_times(best, PROFILE_FACTORS), free_focal=False)
    attempt += Attempt(warnings=rivals.warnings)
    settled = is_settled(best, rivals.candidates)
    chosen = best if settled or guessed.best is None else guessed.best
    if best.score - chosen.score > SETTLED_MARGIN:
        chosen = best
    return FocalChoice(chosen=chosen, settled=settled, attempt=attempt)


def is_settled(best: Candidate, rivals: Sequence[Candidate]) -> bool:
    """Whether every rival, the same chunk with another focal, explains the matches clearly worse."""
    return len(rivals) == len(PROFILE_FACTORS) and all(
        best.score - rival.score > SETTLED_MARGIN for rival in rivals
    )


def _with_focal_times(candidate: Candidate, factors: Sequence[float]) -> list[Candidate]:
    reconstruction = candidate.reconstruction
    return [
        replace(
            candidate,
            reconstruction=replace(
                reconstruction, intrinsics=scale_focal(reconstruction.intrinsics, factor)
            ),
        )
        for factor in factors
    ]
