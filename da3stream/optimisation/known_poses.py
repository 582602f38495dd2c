"""Submaps whose cameras are known in the world: nothing but the scale of their depth is left to find.

The scale of a submap follows from how far its own cameras lie apart, against how far the known ones do, and
from the depth of the frames that it shares with others. A submap whose camera hardly moved has its scale from
its neighbours.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from da3stream.errors import InputError
from da3stream.geometry import rigid3
from da3stream.optimisation.least_squares import least_squares
from da3stream.scene import PlacedCameras, SubmapCameras, SubmapEdge

Array = NDArray[np.float64]

CENTRE_NOISE = 0.002
"""Standard deviation of a submap's camera centres, relative to its typical depth."""
FRAMES_PER_OPINION = 4.0
"""Errors of neighbouring cameras are alike: so many of them count as one."""
EDGE_NOISE = 0.01
"""Standard deviation of the log of a depth ratio of two submaps, however many frames they share."""
POSES_ONLY_NOISE = 0.3
"""The same of an edge that is made from poses alone, because the depths do not fit."""
METRIC_NOISE = 0.1
"""Standard deviation of the log of what a metric submap takes for a metre."""
TUNING = 2.0
"""Residuals of so many standard deviations count half (the weight of a Cauchy distribution)."""
ITERATIONS = 20
_NORMAL = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogScale:
    """A measured log of a scale, or of a ratio of two."""

    value: float
    sigma: float
    """Standard deviation."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KnownPlacement:
    """Submaps at their known cameras."""

    cameras: list[PlacedCameras]
    """Of every submap; its depth scale is the same for all its frames."""
    own: list[LogScale | None]
    """What the cameras of every submap say alone; None where they do not move."""
    log_scale: Array
    """(N,) of every submap, in the unit of the known cameras."""


def place_at_known(
    submaps: Sequence[SubmapCameras],
    edges: Sequence[SubmapEdge],
    world_from_cam: Sequence[Array],
    metric_nodes: Collection[int] = (),
) -> KnownPlacement:
    """Put submaps at the known cameras and find the scales of their depth, all together.

    Args:
        submaps: all of them; the position is the chunk index.
        edges: as alignment measures them, with "depth_ratios" in their evidence.
        world_from_cam: (K, 4, 4) known cameras of the frames of every submap.
        metric_nodes: submaps whose own unit is that of the known cameras, as far as their estimator knows.

    Raises:
        InputError: no camera moves, so that nothing tells the scale.
    """
    own = [log_scale_of(submap, known) for submap, known in zip(submaps, world_from_cam, strict=True)]
    log_scale = _solve(own, edges, sorted(metric_nodes))
    placed = zip(submaps, world_from_cam, log_scale, strict=True)
    return KnownPlacement(
        cameras=[at_known(submap, known, float(np.exp(scale))) for submap, known, scale in placed],
        own=own,
        log_scale=log_scale,
    )


def at_known(submap: SubmapCameras, world_from_cam: Array, scale: float) -> PlacedCameras:
    """A submap at its known cameras (K, 4, 4), with one scale of its depth."""
    return PlacedCameras(
        chunk=submap.chunk, world_from_cam=world_from_cam, depth_scale=np.full(len(world_from_cam), scale)
    )


def log_scale_of(submap: SubmapCameras, world_from_cam: Array) -> LogScale | None:
    """What a submap's cameras say of its scale: units of the known cameras (K, 4, 4) per unit of its own.

    Every pair of cameras gives a ratio: of its own displacement, along the known one, over the known one. The
    weighted median is taken, long displacements counting more. The known cameras are the exact ones, so that
    noise of the own ones does not shorten anything. None: they do not move, or against the known ones.
    """
    own, known = _displacements(submap, world_from_cam)
    squared = np.einsum("pi,pi->p", known, known)
    moved = squared > 0
    if not moved.any():
        return None
    own, known, squared = own[moved], known[moved], squared[moved]
    ratios = np.einsum("pi,pi->p", own, known) / squared
    ratio = _weighted_median(ratios, squared)
    reach = float(np.sqrt(squared.mean())) * ratio
    if not reach > 1e-9 * submap.typical_depth:
        return None
    spread = _NORMAL * _weighted_median(np.abs(ratios / ratio - 1), squared)
    opinions = max(1.0, len(world_from_cam) / FRAMES_PER_OPINION)
    noise = CENTRE_NOISE * submap.typical_depth / reach
    return LogScale(value=-float(np.log(ratio)), sigma=float(np.hypot(spread, noise) / np.sqrt(opinions)))


def log_ratio_of(edge: SubmapEdge) -> LogScale:
    """Log of depth in submap a over depth in submap b, of what both know of the frames they share.

    At the right scales that is the log-scale of b minus that of a.
    """
    logs = np.log(np.asarray(edge.evidence["depth_ratios"], dtype=np.float64))
    value = float(np.median(logs))
    if edge.evidence.get("method") == "poses":
        return LogScale(value=value, sigma=POSES_ONLY_NOISE)
    spread = _NORMAL * float(np.median(np.abs(logs - value))) / np.sqrt(len(logs))
    return LogScale(value=value, sigma=float(np.hypot(EDGE_NOISE, spread)))


def _displacements(submap: SubmapCameras, world_from_cam: Array) -> tuple[Array, Array]:
    """(P, 3) from one camera to another, of all pairs: in the submap's unit, turned into the world; known."""
    submap_from_cam = rigid3.invert(rigid3.to_4x4(submap.cam_from_submap))
    turns = world_from_cam[:, :3, :3] @ np.swapaxes(submap_from_cam[:, :3, :3], 1, 2)
    own = submap_from_cam[:, :3, 3] @ rigid3.nearest_rotation(turns.sum(axis=0)).T
    known = world_from_cam[:, :3, 3]
    first, second = np.triu_indices(len(known), 1)
    return own[second] - own[first], known[second] - known[first]


def _weighted_median(values: Array, weights: Array) -> float:
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulated, cumulated[-1] / 2)])


def _solve(own: Sequence[LogScale | None], edges: Sequence[SubmapEdge], metric: Sequence[int]) -> Array:
    """(N,) log-scales: robust least squares over what cameras, depths and estimators say."""
    alone = [(node, measured) for node, measured in enumerate(own) if measured is not None]
    alone += [(node, LogScale(value=0.0, sigma=METRIC_NOISE)) for node in metric]
    if not alone:
        raise InputError(
            "the known poses tell no scale: the camera moves nowhere, in the poses or in the estimate",
            hint="Run without --poses, or with frames between which the camera moves.",
        )
    between = [log_ratio_of(edge) for edge in edges]
    rows = np.concatenate([np.arange(len(alone)), len(alone) + np.arange(len(edges)).repeat(2)])
    columns = [node for node, _ in alone] + [node for edge in edges for node in (edge.a, edge.b)]
    values = np.concatenate([np.ones(len(alone)), np.tile([-1.0, 1.0], len(edges))])
    shape = (len(alone) + len(edges), len(own))
    jacobian = scipy.sparse.csr_array((values, (rows.astype(np.intp), columns)), shape=shape)
    measured = [*(each for _, each in alone), *between]
    return _robust(
        jacobian, np.array([each.value for each in measured]), np.array([each.sigma for each in measured])
    )


def _robust(jacobian: scipy.sparse.csr_array, values: Array, sigma: Array) -> Array:
    """Iteratively reweighted least squares with the weights of a Cauchy distribution."""
    certainty = 1.0 / np.square(sigma)
    weights, first = np.ones(len(values)), np.zeros((0, 1))
    solution = np.zeros(jacobian.shape[1])
    for _ in range(ITERATIONS):
        before = solution
        solution = least_squares(jacobian, weights * certainty, values[:, None], first)[:, 0]
        weights = 1.0 / (1.0 + np.square((jacobian @ solution - values) / (TUNING * sigma)))
        if np.abs(solution - before).max() < 1e-9:
            break
    return solution
