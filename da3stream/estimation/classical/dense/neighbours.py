"""Which other views a view is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.dense.views import Views

GRID_SIDE = 9
FLOW_REACH, FLOW_PARALLAX_PX, FLOW_IDEAL_PX = 6, 3.0, 5.0
SWEEP_REACH, SWEEP_PARALLAX_PX = 12, 3.0
SWEEP_IDEALS_PX = (5.0, 10.0, 20.0)
"""One source of each parallax on either side: the small one keeps near points in view and repeated texture
apart, the large one is precise. Measured on a drive: outliers 8.4 % against 9.7 % with two sources and 16 %
with one a side."""
MIN_OVERLAP = 0.5
MIN_RELATIVE_DEPTH = 1e-6
"""Of what counts as in front of a camera, in units of the depth in the other one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Parallax:
    """How far points at a frame's median depth move by translation alone, for ordered pairs of frames."""

    displacement_px: NDArray[np.float64]
    """(N, N) median over a grid in the row's frame, in pixels of the column's frame; 0 on the diagonal."""
    overlap: NDArray[np.float64]
    """(N, N) share of the grid that lands inside the column's frame."""


def measure_parallax(views: Views, median_inverse_depth: NDArray[np.float64]) -> Parallax:
    """Parallax of all ordered pairs."""
    rows = [_parallax_from(views, i, float(w)) for i, w in enumerate(median_inverse_depth)]
    return Parallax(
        displacement_px=np.stack([row.displacement_px for row in rows]),
        overlap=np.stack([row.overlap for row in rows]),
    )


def _parallax_from(views: Views, i: int, inverse_depth: float) -> Parallax:
    """One row: from frame i to all frames. All arrays below are (N, pixels of the grid)."""
    size = np.array(views.size)[:, None]
    steps = (np.indices((GRID_SIDE, GRID_SIDE)).reshape(2, -1) + 0.5) / GRID_SIDE
    pixels = np.vstack([steps * size, np.ones(GRID_SIDE**2)])
    pairs = [views.pair(i, j) for j in range(len(views))]
    far = np.stack([pair.infinite_homography @ pixels for pair in pairs])
    near = far + inverse_depth * np.stack([pair.epipole for pair in pairs])[..., None]
    in_front = (far[:, 2] > MIN_RELATIVE_DEPTH) & (near[:, 2] > MIN_RELATIVE_DEPTH)
    far, near = (p[:, :2] / np.where(in_front, p[:, 2], 1)[:, None] for p in (far, near))
    inside = in_front & ((near > 0) & (near < size)).all(axis=1)
    moved = np.where(in_front, np.linalg.norm(near - far, axis=1), 0)
    return Parallax(displacement_px=np.median(moved, axis=1), overlap=inside.mean(axis=1))


def flow_pairs(parallax: Parallax) -> list[tuple[int, int]]:
    """Unordered pairs i < j: of each frame with the one earlier and the one later frame nearest to the ideal.

    In a steady motion the partners choose each other, and each frame has two pairs.
    """
    pairs: set[tuple[int, int]] = set()
    for i in range(len(parallax.overlap)):
        for side in _sides(parallax, i, FLOW_REACH, FLOW_PARALLAX_PX):
            best = _nearest_to(parallax, i, side, FLOW_IDEAL_PX)
            pairs.update((min(i, j), max(i, j)) for j in best[:1])
    return sorted(pairs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Frames that a frame is swept against."""

    earlier: tuple[int, ...]
    later: tuple[int, ...]

    @property
    def sides(self) -> tuple[tuple[int, ...], ...]:
        """The sides that have any frames."""
        return tuple(side for side in (self.earlier, self.later) if side)

    @property
    def all(self) -> tuple[int, ...]:
        """Both sides."""
        return self.earlier + self.later


def sweep_sources(parallax: Parallax, i: int) -> Sources:
    """On either side of frame i at most one frame for each ideal parallax."""
    earlier, later = _sides(parallax, i, SWEEP_REACH, SWEEP_PARALLAX_PX)
    return Sources(
        earlier=_one_for_each_ideal(parallax, i, earlier), later=_one_for_each_ideal(parallax, i, later)
    )


def _sides(parallax: Parallax, i: int, reach: int, least_px: float) -> list[list[int]]:
    """Earlier and later frames, by distance in time, that see the same with enough parallax.

    Those out of reach count only where none is within it: the camera hardly moved, or stood still.
    """
    enough = (parallax.displacement_px[i] >= least_px) & (parallax.overlap[i] >= MIN_OVERLAP)
    sides = [[j for j in side if enough[j]] for side in (range(i - 1, -1, -1), range(i + 1, len(enough)))]
    return [[j for j in side if abs(i - j) <= reach] or side for side in sides]


def _one_for_each_ideal(parallax: Parallax, i: int, candidates: Sequence[int]) -> tuple[int, ...]:
    chosen: list[int] = []
    for ideal in SWEEP_IDEALS_PX:
        left = [j for j in candidates if j not in chosen]
        chosen += _nearest_to(parallax, i, left, ideal)[:1]
    return tuple(chosen)


def _nearest_to(parallax: Parallax, i: int, candidates: Sequence[int], ideal_px: float) -> list[int]:
    """Candidates by |log(parallax / ideal)|, those of equal parallax by distance in time."""
    return sorted(
        candidates, key=lambda j: (abs(np.log(parallax.displacement_px[i, j] / ideal_px)), abs(i - j))
    )
