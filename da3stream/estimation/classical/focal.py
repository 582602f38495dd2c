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
CLEAR_MARGIN = 0.02
"""A difference of epipolar scores that leaves no doubt. Measured drops: walking around an object 0.11 to
0.20, driving straight on 0.000 to 0.001, a robot on a plane 0.000 to 0.003."""
CONVINCING_SCORE = 0.75
"""With a score from here on the guess is taken to be in the right basin, settled or not."""


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
    """Reconstruct with the known focal, or find the unknown one.

    The guess is kept unless another focal is clearly better: where the motion tells nothing of the focal (a
    straight drive), neighbouring chunks must at least agree on it. The other hypotheses cost as much again,
    so they are tried only if the guess explains the matches badly.
    """
    guessed = mapping.reconstruct()
    if known:
        return FocalChoice(chosen=guessed.best, settled=False, attempt=guessed)
    freed = _free(mapping, guessed)
    if not freed.settled and (freed.chosen is None or freed.chosen.score < CONVINCING_SCORE):
        others = mapping.reconstruct([each / FOCAL_GUESS for each in FOCAL_HYPOTHESES if each != FOCAL_GUESS])
        freed = _free(mapping, guessed + others)
    if freed.settled or guessed.best is None or _is_clearly_better(freed.chosen, guessed.best):
        return freed
    return FocalChoice(chosen=guessed.best, settled=False, attempt=freed.attempt)


def _free(mapping: Mapping, attempt: Attempt) -> FocalChoice:
    """Adjust the focal of every candidate, take the best, and compare it with other focals."""
    freed = mapping.adjust(attempt.candidates, free_focal=True)
    best = freed.best
    if best is None:
        return FocalChoice(chosen=None, settled=False, attempt=attempt + freed)
    rivals = mapping.adjust(_with_focal_times(best, PROFILE_FACTORS), free_focal=False)
    return FocalChoice(chosen=best, settled=is_settled(best, rivals.candidates), attempt=attempt + freed)


def is_settled(best: Candidate, rivals: Sequence[Candidate]) -> bool:
    """Whether every rival, the same chunk with another focal, explains the matches clearly worse."""
    return len(rivals) == len(PROFILE_FACTORS) and all(_is_clearly_better(best, rival) for rival in rivals)


def _is_clearly_better(candidate: Candidate | None, rival: Candidate) -> bool:
    return candidate is not None and candidate.score - rival.score > CLEAR_MARGIN


def _with_focal_times(candidate: Candidate, factors: Sequence[float]) -> list[Candidate]:
    reconstruction = candidate.reconstruction
    return [
        replace(
            candidate,
            reconstruction=replace(reconstruction, intrinsics=scale_focal(reconstruction.intrinsics, factor)),
        )
        for factor in factors
    ]
