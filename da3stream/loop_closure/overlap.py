"""Do two groups of frames of one submap see the same surfaces?

The usable pixels of a frame of one group are projected into a frame of the other, where each is compared with
the depths of the four pixels around it. Between those lies the depth of any smooth surface, at any slope. A
point that is

- as far as they say, within a tolerance, is *confirmed*;
- farther is *hidden*: something stands before it, which proves nothing;
- nearer is *contradicted*: the other frame looks through it, so that not both can be right.

Two different places that were put on top of each other contradict each other wherever they are compared. They
have what no occlusion can explain: points nearer than what the other place sees, in both directions. What
geometry cannot tell is a place from its exact repetition, one window further along a facade.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.camera import unproject
from da3stream.geometry.rigid3 import invert, to_4x4
from da3stream.scene import Submap

Array = NDArray[np.float64]

FRAMES_PER_SIDE = 5
"""Frames of a group that are compared with as many of the other, evenly spread."""
MAX_PIXELS = 4000
"""Pixels of a frame that are projected; more are thinned evenly."""
UNSURE = 0.2
"""Pixels with less than this share of the submap's median confidence are not compared."""
_SAME_SURFACE = math.log(2.0)
"""The median ratio of depths is taken over pixels that differ by less, to leave out what is hidden."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """What one group of frames says of what the other sees, weighted by confidence."""

    coverage: float
    """Share of a frame's usable pixels that land on usable ones of the best frame of the other group, [0, 1],
    median over the frames."""
    confirmed: float
    """Share of a frame's usable pixels that the best frame of the other group confirms, likewise."""
    agreement: float
    """Confirmed pixels over confirmed and contradicted ones, all pairs of frames; 0 if there is neither."""
    log_depth_ratio: float
    """Median of log(projected depth / depth there) over pixels within a factor of two; 0 if there is none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Comparison:
    """Pixels of one frame that land on usable ones of another, each (M,)."""

    below: Array
    """log(projected depth / smallest depth around)."""
    above: Array
    """log(projected depth / largest depth around)."""
    weight: Array
    """Confidence, as a share of the frame's total."""

    @property
    def log_ratio(self) -> Array:
        """How far the depth lies outside of those around it; 0 between them."""
        return np.where(self.below < 0, self.below, np.maximum(self.above, 0.0))


def measure_overlap(
    submap: Submap, from_frames: tuple[int, ...], to_frames: tuple[int, ...], *, tolerance: float
) -> Overlap:
    """How the pixels of `from_frames` fare in `to_frames`; both belong to the submap.

    Args:
        submap: holds the frames of both groups.
        from_frames: frame indices whose pixels are projected.
        to_frames: frame indices into which they are projected.
        tolerance: relative difference of depth that counts as none.
    """
    usable = usable_weights(submap)
    targets = submap.rows(evenly(to_frames, FRAMES_PER_SIDE))
    covered, confirmed = [], []
    totals, ratios, weights = np.zeros(2), [np.zeros(0)], [np.zeros(0)]
    for row in submap.rows(evenly(from_frames, FRAMES_PER_SIDE)):
        shares = np.zeros((len(targets), 3))
        for k, comparison in enumerate(_compare(submap, usable, int(row), targets)):
            ratio, weight = comparison.log_ratio, comparison.weight
            agrees, contradicts = np.abs(ratio) <= tolerance, ratio < -tolerance
            shares[k] = weight.sum(), weight @ agrees, weight @ contradicts
            near = np.abs(ratio) < _SAME_SURFACE
            ratios.append(ratio[near])
            weights.append(weight[near])
        covered.append(shares[:, 0].max())
        confirmed.append(shares[:, 1].max())
        totals += shares[:, 1:].sum(0)
    return Overlap(
        coverage=float(np.median(covered)),
        confirmed=float(np.median(confirmed)),
        agreement=float(totals[0] / totals.sum()) if totals.sum() > 0 else 0.0,
        log_depth_ratio=weighted_median(np.concatenate(ratios), np.concatenate(weights)),
    )


def usable_weights(submap: Submap) -> Array:
    """(N, h, w) confidence; 0 in the sky, without depth, and where it is small beside the median."""
    known = np.isfinite(submap.depth) & (submap.depth > 0)
    if submap.sky is not None:
        known &= ~submap.sky
    weight = np.where(known, submap.confidence, 0.0).astype(np.float64)
    positive = weight[weight > 0]
    return np.where(weight >= UNSURE * np.median(positive), weight, 0.0) if len(positive) else weight


def evenly(frames: tuple[int, ...], count: int) -> tuple[int, ...]:
    """At most `count` of the frames, from the first to the last."""
    if len(frames) <= count:
        return frames
    return tuple(frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int))


def _compare(submap: Submap, usable: Array, row: int, targets: NDArray[np.intp]) -> Iterator[_Comparison]:
    """The pixels of one frame against each of the target frames."""
    y, x = np.nonzero(usable[row])
    kept = np.linspace(0, len(y), min(len(y), MAX_PIXELS), endpoint=False).astype(np.intp)
    y, x = y[kept], x[kept]
    pose = invert(to_4x4(submap.cam_from_submap[row]))
    in_cam = unproject(submap.depth[row].astype(np.float64), submap.intrinsics[row])[y, x]
    points = in_cam @ pose[:3, :3].T + pose[:3, 3]
    weight = usable[row, y, x]
    weight = weight / weight.sum() if len(weight) else weight
    for target in targets:
        yield _compare_with(submap, usable, int(target), points, weight)


def _compare_with(submap: Submap, usable: Array, target: int, points: Array, weight: Array) -> _Comparison:
    height, width = submap.depth.shape[1:]
    cam_from_submap, intrinsics = submap.cam_from_submap[target], submap.intrinsics[target]
    in_cam = points @ cam_from_submap[:, :3].T + cam_from_submap[:, 3]
    ahead = in_cam[:, 2] > 0
    in_cam, weight = in_cam[ahead], weight[ahead]
    # Pixel i has its centre at i + 0.5.
    at = in_cam[:, :2] / in_cam[:, 2:] * np.diag(intrinsics)[:2] + intrinsics[:2, 2] - 0.5
    inside = ((at >= 0) & (at < np.array([width - 1, height - 1]))).all(axis=1)
    depth, weight = in_cam[inside, 2], weight[inside]
    x, y = at[inside].astype(np.intp).T
    corner_y, corner_x = y[:, None] + np.array([0, 0, 1, 1]), x[:, None] + np.array([0, 1, 0, 1])
    around = submap.depth[target, corner_y, corner_x].astype(np.float64)
    known = usable[target, corner_y, corner_x] > 0
    landed = known.any(axis=1)
    smallest = np.where(known, around, np.inf).min(axis=1)[landed]
    largest = np.where(known, around, 0.0).max(axis=1)[landed]
    depth = depth[landed]
    return _Comparison(below=np.log(depth / smallest), above=np.log(depth / largest), weight=weight[landed])


def weighted_median(values: Array, weights: Array) -> float:
    """Half of the weight of (N,) values lies at or below it; 0 without values."""
    if not len(values):
        return 0.0
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(cumulative, cumulative[-1] / 2)]])
