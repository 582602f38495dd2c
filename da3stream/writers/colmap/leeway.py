"""How far a refinement may move cameras: as far as the submaps are uncertain.

What all submaps do to a long path together is nobody's measurement: with drift, the far end may move by any
length. What is known is how far cameras are off against those nearby. So the path is looked at in stretches
of neighbouring chunks that overlap. Each is moved, turned and scaled to fit as a whole; what remains is held
against the uncertainty of its chunks (`da3stream.optimisation.distortion`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.rigid3 import nearest_rotation, rotation_angle
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import PoseUncertainty

Array = NDArray[np.float64]

SIGMAS = 3.0
"""A camera may be so many times further off than it is on average (the root of the mean square)."""
MIN_SHIFT, MIN_TURN_RAD = 0.02, 0.02
"""Always allowed; the shift relative to depth. The chunks' disagreement says nothing of what they have in
common, the focal length above all; and what can hardly be seen (`placed_map.VISIBLE`) harms nobody."""
MAX_SHIFT, MAX_TURN_RAD = 0.05, 0.05
"""Never allowed to be exceeded: where two submaps disagree by 0.02, they are visibly apart; beyond more than
twice that, something else than noise was removed."""
PERCENTILE = 95
"""Of the cameras of a stretch that must keep to it: one image that was blurred may move."""
LEAST_CHUNKS, LEAST_IMAGES = 2, 10
"""A stretch has at least so many of both: a similarity fits fewer images too well."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stretch:
    """Images of neighbouring chunks."""

    rows: NDArray[np.intp]
    turn_rad: float
    """Standard deviation of a camera against the others about each axis."""
    shift_over_depth: float
    """The same along each axis, as far as it does not grow with the length of the stretch."""
    log_scale: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Movement:
    """How far the cameras of a stretch moved against each other, and how far they may."""

    shift_over_depth: float
    shift_allowed: float
    turn_rad: float
    turn_allowed_rad: float

    @property
    def excess(self) -> float:
        """Beyond 1 it is too far."""
        return max(self.shift_over_depth / self.shift_allowed, self.turn_rad / self.turn_allowed_rad)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Leeway:
    """What the cameras of a model may do."""

    stretches: Sequence[Stretch]
    depths: Array
    """(N,) typical depth of each image in world units; infinite if unknown."""

    @classmethod
    def of(
        cls,
        chunks: Sequence[int],
        uncertainties: Mapping[int, PoseUncertainty],
        typical_depths: Sequence[float],
    ) -> Leeway:
        """From the chunk and the typical depth of each image; of unknown chunks, as little as there is."""
        groups = [(chunk, len(list(rows))) for chunk, rows in groupby(chunks)]
        ends = np.cumsum([0, *(count for _, count in groups)])
        found = []
        for first, last in _spans(ends.tolist()):
            members = [uncertainties[chunk] for chunk, _ in groups[first:last] if chunk in uncertainties]
            found.append(_stretch(np.arange(ends[first], ends[last]), members))
        return cls(stretches=found, depths=np.array(typical_depths, dtype=np.float64))

    def worst(self, before: Array, after: Array) -> Movement:
        """The stretch that moved furthest beyond what it may, or came nearest to it; of (N, 4, 4) poses
        world_from_cam."""
        movements = [self._movement(stretch, before, after) for stretch in self.stretches]
        still = Movement(
            shift_over_depth=0.0, shift_allowed=MIN_SHIFT, turn_rad=0.0, turn_allowed_rad=MIN_TURN_RAD
        )
        return max(movements, key=lambda movement: movement.excess, default=still)

    def _movement(self, stretch: Stretch, before: Array, after: Array) -> Movement:
        old, depths = before[stretch.rows], self.depths[stretch.rows]
        new = similarity(after[stretch.rows], old).move_pose(after[stretch.rows])
        shifts = np.linalg.norm(new[:, :3, 3] - old[:, :3, 3], axis=1) / depths
        turns = rotation_angle(new[:, :3, :3] @ np.swapaxes(old[:, :3, :3], 1, 2))
        # A part that turns or grows against another takes its far end along.
        radius = np.sqrt(np.square(old[:, :3, 3] - old[:, :3, 3].mean(axis=0)).sum(axis=1).mean())
        lever = float(radius / np.median(depths)) * float(np.hypot(stretch.turn_rad, stretch.log_scale))
        return Movement(
            shift_over_depth=float(np.percentile(shifts, PERCENTILE)),
            shift_allowed=_allowed(float(np.hypot(stretch.shift_over_depth, lever)), MIN_SHIFT, MAX_SHIFT),
            turn_rad=float(np.percentile(turns, PERCENTILE)),
            turn_allowed_rad=_allowed(stretch.turn_rad, MIN_TURN_RAD, MAX_TURN_RAD),
        )


def _spans(ends: Sequence[int]) -> list[tuple[int, int]]:
    """First and last (exclusive) of the groups of each stretch, where group i ends at image ends[i + 1]."""
    spans, count = [], len(ends) - 1
    for first in range(count):
        last = min(first + LEAST_CHUNKS, count)
        while last < count and ends[last] - ends[first] < LEAST_IMAGES:
            last += 1
        start = first
        while start > 0 and ends[last] - ends[start] < LEAST_IMAGES:  # at the end of the path
            start -= 1
        spans.append((start, last))
        if last == count:
            break
    return spans


def _stretch(rows: NDArray[Any], members: Sequence[PoseUncertainty]) -> Stretch:
    """Errors of chunks are independent: their variances add up."""
    return Stretch(
        rows=rows.astype(np.intp),
        turn_rad=float(np.linalg.norm([each.turn_rad for each in members])),
        shift_over_depth=float(np.linalg.norm([each.shift_over_depth for each in members])),
        log_scale=float(np.linalg.norm([each.log_scale for each in members])),
    )


def _allowed(sigma: float, least: float, most: float) -> float:
    """Of a vector of three axes with this standard deviation."""
    return min(max(SIGMAS * np.sqrt(3.0) * sigma, least), most)


def similarity(poses: Array, targets: Array) -> Sim3:
    """What takes (N, 4, 4) poses to targets.

    The rotation is the mean of those of the cameras, since the centres alone leave a straight path free to
    turn about itself; scale and translation are those of the centres.
    """
    rotation = nearest_rotation((targets[:, :3, :3] @ np.swapaxes(poses[:, :3, :3], 1, 2)).sum(axis=0))
    centres, goals = poses[:, :3, 3] @ rotation.T, targets[:, :3, 3]
    spread = centres - centres.mean(axis=0)
    extent = float((spread**2).sum())
    fitted = float((spread * (goals - goals.mean(axis=0))).sum()) / extent if extent > 0 else 1.0
    scale = fitted if fitted > 0 else 1.0
    return Sim3(scale=scale, rotation=rotation, translation=goals.mean(axis=0) - scale * centres.mean(axis=0))
