"""Poses that are known, but not exactly: they pull the map to them, and it ends in their frame and unit.

The world of the priors is one more node of the pose graph, which stays where it is. A submap hangs on it by
one edge that sums up what the priors say of its frames: every prior is a factor on one camera, weighted by a
Cauchy kernel. How large the errors of the priors are is found on the way: at first everything that the map
has drifted counts as their error, and as the map comes nearer, only theirs is left.

Factors on single poses in a graph: Dellaert and Kaess, "Factor Graphs for Robot Perception", 2017, ch. 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.errors import InputError
from da3stream.geometry import rigid3
from da3stream.geometry.registration import fit_robust, umeyama
from da3stream.geometry.sim3 import Sim3, skew
from da3stream.optimisation.distortion import Distortion
from da3stream.optimisation.edges import Indices, stack, take, unstack
from da3stream.optimisation.pose_graph import (
    OptimisationReport,
    OptimisedGraph,
    PoseGraphOptions,
    optimise,
)
from da3stream.optimisation.shared_frames import CameraTable
from da3stream.scene import PoseGraph, SubmapCameras, SubmapEdge

Array = NDArray[np.float64]

FEWEST_PRIORS = 3
"""With fewer frames that have one, a frame and a unit cannot be told."""
ROUNDS = 8
"""Of weighting the priors and placing the submaps."""
GIVEN_ROUNDS = 3
"""The last ones, in which a sigma that was given is used; those before may use a larger one."""
TUNING = 2.385
"""Width of the Cauchy kernel in standard deviations: 95 % efficient for normal errors (Rey 1983)."""
BLIND_ROTATION_RAD = 0.35
"""Rotations that err by more say nothing: files of positions have made-up ones."""
MOST_ROTATION_GAIN = 0.5
"""A frame that follows from positions alone is taken if it leaves less than so much of the misfit."""
_MEDIAN_LENGTH = 1.5382
"""Median length of a vector of three independent normal numbers of variance 1."""
_HOLD = np.array([10.0] * 3 + [1e-2] * 3 + [10.0])
"""Information that keeps a submap near where the round before put it in what no prior tells, such as a turn
around a straight path: 0.3 rad, 10 depths, 0.3 of the log-scale. Edges hold a thousand times as firmly."""
_OUTLIER = 0.1
"""A prior of less weight counts as wrong in reports: it lies off by 7 standard deviations."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PosePriors:
    """Prior poses of some frames."""

    frames: NDArray[np.int64]
    """(P,) increasing."""
    world_from_cam: Array
    """(P, 4, 4)"""
    sigma: float | None = None
    """Standard deviation of each coordinate of a position, in the unit of the poses; None: to be found."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PriorRows:
    """What the priors say of the cameras of all submaps, row by row of the `CameraTable`."""

    rows: Indices
    """(M,) rows of frames that have a prior; such a frame may lie in several submaps."""
    prior: Indices
    """(M,) which prior belongs to the row."""
    world_from_cam: Array
    """(M, 4, 4) the priors."""
    certainty: Array
    """(M,) inverse variance of a coordinate of the position: kernel included, divided by how many submaps
    share the frame, so that a prior counts once."""
    rotation_certainty: Array
    """(M,) the same of an axis of the rotation, in radians; 0 where rotations say nothing."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PriorReport:
    """What became of the priors."""

    sigma: float
    """Standard deviation of a coordinate of the positions, in their unit, given or found."""
    rotation_sigma_rad: float | None
    """The same of the rotations; None: they do not fit the positions and were not used."""
    frames: int
    """Frames with a prior."""
    outliers: tuple[int, ...]
    """Frames whose prior is hardly believed."""
    scale_uncertainty: float
    """Standard deviation of the log of the unit: of what noisy positions tell of the size of the path."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PulledGraph:
    """Submaps as rigid bodies, placed by edges and priors."""

    world_from: list[Sim3]
    """world_from_submap of every submap, in the world of the priors."""
    report: OptimisationReport
    """Of the edges between submaps and the scale prior; what the pose priors cost is not in it.

    `iterations` and `cost_before` are of all steps from the tree on. `variance_factor` is that of the
    placement without priors: pulled edges fit worse without being worse, and how much of that the priors may
    take depends on how many loops there are. `cost_after` and `mahalanobis` are of the pulled placement.
    """
    rows: PriorRows
    """The priors with their final weights."""
    priors: PriorReport


def pull(
    submaps: Sequence[SubmapCameras],
    edges: Sequence[SubmapEdge],
    free: OptimisedGraph,
    distortion: Distortion,
    priors: PosePriors,
    *,
    metric_nodes: frozenset[int],
    options: PoseGraphOptions,
) -> PulledGraph:
    """Place submaps by their edges and by priors.

    Args:
        submaps: all of them; the position is the node.
        edges: with honest information.
        free: the placement without priors, in a frame and unit of its own.
        distortion: how much submaps bend.
        priors: of any frames.
        metric_nodes: submaps in metres.
        options: of the pose graph.

    Raises:
        InputError: the priors tell no frame and unit: too few of them, or nothing moves.
    """
    if len(priors.frames) < FEWEST_PRIORS:
        raise _too_few(len(priors.frames))
    middle = np.median(priors.world_from_cam[:, :3, 3], axis=0)
    centred = replace(priors, world_from_cam=_shifted(priors.world_from_cam, -middle))
    problem = _Problem(submaps, edges, distortion, centred)
    placed = stack(free.world_from)
    iterations = free.report.iterations
    placed = problem.priors_from_map(placed) @ placed
    for left in reversed(range(ROUNDS)):
        problem.weigh(placed, sigma=priors.sigma if left < GIVEN_ROUNDS else None)
        factors = problem.edges(placed)
        graph = PoseGraph(
            nodes=len(submaps) + 1,
            edges=(*factors, *(replace(edge, a=edge.a + 1, b=edge.b + 1) for edge in edges)),
            metric_nodes=frozenset(node + 1 for node in metric_nodes),
        )
        found = optimise(graph, [Sim3.identity(), *unstack(placed)], options=options)
        placed = take(stack(found.world_from), slice(1, None))
        iterations += found.report.iterations
    shift = Sim3(rotation=np.eye(3), translation=middle)
    rows = problem.rows()
    return PulledGraph(
        world_from=unstack(_repeated(shift, len(submaps)) @ placed),
        report=_of_edges(found.report, free.report, iterations),
        rows=replace(rows, world_from_cam=_shifted(rows.world_from_cam, middle)),
        priors=problem.report(placed),
    )


def _of_edges(last: OptimisationReport, free: OptimisationReport, iterations: int) -> OptimisationReport:
    """The report of the last round without the edges of the priors, which come first, one for each submap."""
    priors = len(last.weights) - len(free.weights)
    of_priors = float(last.weights[:priors] @ np.square(last.mahalanobis[:priors]))
    return replace(
        last,
        iterations=iterations,
        cost_before=free.cost_before,
        cost_after=max(last.cost_after - of_priors, 0.0),  # a chain alone has none, but for rounding
        mahalanobis=last.mahalanobis[priors:],
        weights=last.weights[priors:],
        variance_factor=free.variance_factor,
    )


class _Problem:
    """Priors and the cameras that they belong to; weights that follow the placement."""

    def __init__(
        self,
        submaps: Sequence[SubmapCameras],
        edges: Sequence[SubmapEdge],
        distortion: Distortion,
        priors: PosePriors,
    ) -> None:
        table = CameraTable.of(submaps)
        frames = np.concatenate([np.array(submap.chunk.frames, dtype=np.int64) for submap in submaps])
        place = np.searchsorted(priors.frames, frames)
        has_prior = priors.frames[np.minimum(place, len(priors.frames) - 1)] == frames
        is_new = np.concatenate([_is_new(submap) for submap in submaps])
        self._priors = priors
        self._rows = np.flatnonzero(has_prior)
        self._prior = place[has_prior]
        self._submap = table.submap[has_prior]
        self._in_submap = table.submap_from_cam[has_prior]
        self._given = priors.world_from_cam[self._prior]
        self._share = 1.0 / np.bincount(self._prior, minlength=len(priors.frames))[self._prior]
        self._own = is_new[has_prior]
        depth = np.array([submap.typical_depth for submap in submaps])
        self._depth = depth
        self._noise = depth * distortion.noise * distortion.positive_jitter[1]
        self._rotation_noise = distortion.noise * distortion.positive_jitter[0]
        self._certainty = self._rotation_certainty = np.zeros(len(self._rows))
        self._weight = np.ones(len(self._rows))
        self._sigma, self._rotation_sigma = 0.0, 0.0

    def priors_from_map(self, placed: Sim3) -> Sim3:
        """(1,) the frame and unit of the priors, from those of a map; robust against wrong priors."""
        own, given = self._world_from_cam(placed)[self._own], self._given[self._own]
        if len(given) < FEWEST_PRIORS:
            raise _too_few(len(given))
        fits = [fit for fit in (_by_rotations(own, given), _by_positions(own, given)) if fit is not None]
        if not fits:
            raise InputError(
                "the prior poses tell no unit: the camera moves nowhere, in the poses or in the estimate",
                hint="Run without --poses, or with frames between which the camera moves.",
            )
        best = min(fits, key=lambda fit: fit.misfit)
        return _repeated(best.a_from_b, 1)

    def weigh(self, placed: Sim3, sigma: float | None) -> None:
        """Set the weights of all priors by how far they lie from a placement, and by their sigma if given."""
        offset, turn = self._off(placed)
        distance, angle = np.linalg.norm(offset, axis=1), np.linalg.norm(turn, axis=1)
        scale = np.asarray(placed.scale)
        own, submap = self._own, self._submap
        floor = float(np.median((self._noise * scale)[submap]))
        found = max(float(np.median(distance[own])) / _MEDIAN_LENGTH, floor)
        self._sigma = found if sigma is None else sigma
        variance = self._sigma**2 + np.square((self._noise * scale)[submap])
        self._weight = 1 / (1 + np.square(distance / TUNING) / variance)
        self._certainty = self._share * self._weight / variance
        self._rotation_sigma = max(
            float(np.median(angle[own])) / _MEDIAN_LENGTH, float(np.median(self._rotation_noise[submap]))
        )
        variance = self._rotation_sigma**2 + np.square(self._rotation_noise[submap])
        kernel = 1 / (1 + np.square(angle / TUNING) / variance)
        self._rotation_certainty = (
            self._share * kernel * (self._rotation_sigma < BLIND_ROTATION_RAD) / variance
        )

    def edges(self, placed: Sim3) -> list[SubmapEdge]:
        """One edge from node 0 to every submap: the priors' factors, linear around a placement.

        With a right perturbation (w, v, l) of world_from_submap a centre c moves by w x c + v + l c and a
        camera turns by w, both in the submap.
        """
        scale, turn = placed.scale[self._submap], placed.rotation[self._submap]
        offset, rotation = self._off(placed)
        centres = self._in_submap[:, :3, 3]
        local = np.einsum("mji,mj->mi", turn, offset) / scale[:, None]
        by_position = np.concatenate(
            [-skew(centres), np.broadcast_to(np.eye(3), (len(centres), 3, 3)), centres[..., None]], axis=2
        )
        certainty = self._certainty * np.square(scale)
        nodes = len(self._depth)
        hessian, gradient = np.zeros((nodes, 7, 7)), np.zeros((nodes, 7))
        weighted = certainty[:, None, None] * np.swapaxes(by_position, 1, 2)
        np.add.at(hessian, self._submap, weighted @ by_position)
        np.add.at(gradient, self._submap, np.einsum("mij,mj->mi", weighted, local))
        turned = self._rotation_certainty[:, None]
        np.add.at(hessian[:, :3, :3], self._submap, turned[..., None] * np.eye(3))
        np.add.at(gradient[:, :3], self._submap, turned * np.einsum("mji,mj->mi", turn, rotation))
        return [self._edge(node, placed, hessian[node], gradient[node]) for node in range(nodes)]

    def _edge(self, node: int, placed: Sim3, hessian: Array, gradient: Array) -> SubmapEdge:
        unit = np.ones(7)
        unit[3:6] = self._depth[node]
        information = hessian + np.diag(_HOLD / np.square(unit))
        scaled = information * unit[:, None] * unit
        step = unit * np.linalg.solve(scaled, unit * gradient)
        pose = Sim3(
            scale=placed.scale[node], rotation=placed.rotation[node], translation=placed.translation[node]
        )
        return SubmapEdge(
            a=0, b=node + 1, a_from_b=pose @ Sim3.exp(step), information=information, kind="overlap"
        )

    def rows(self) -> PriorRows:
        """The priors with the weights of the last `weigh`."""
        return PriorRows(
            rows=self._rows,
            prior=self._prior,
            world_from_cam=self._given,
            certainty=self._certainty,
            rotation_certainty=self._rotation_certainty,
        )

    def report(self, placed: Sim3) -> PriorReport:
        """What the last `weigh` made of them; `placed` is the map in their world."""
        frames = self._priors.frames[self._prior]
        wrong = frames[self._own & (self._weight < _OUTLIER)]
        blind = self._rotation_sigma >= BLIND_ROTATION_RAD
        return PriorReport(
            sigma=self._sigma,
            rotation_sigma_rad=None if blind else self._rotation_sigma,
            frames=int(self._own.sum()),
            outliers=tuple(int(frame) for frame in wrong),
            scale_uncertainty=self._scale_uncertainty(placed),
        )

    def _scale_uncertainty(self, placed: Sim3) -> float:
        """A position of variance v at a distance r from the middle tells it with a variance of v / r^2."""
        centres = self._world_from_cam(placed)[:, :3, 3]
        from_middle = centres - np.average(centres, axis=0, weights=self._certainty)
        return float(1 / np.sqrt(self._certainty @ np.square(from_middle).sum(axis=1)))

    def _world_from_cam(self, placed: Sim3) -> Array:
        return take(placed, self._submap).move_pose(self._in_submap)

    def _off(self, placed: Sim3) -> tuple[Array, Array]:
        """(M, 3) from cameras to their priors, in the world: displacement, rotation vector."""
        cameras = self._world_from_cam(placed)
        missed = self._given[:, :3, :3] @ np.swapaxes(cameras[:, :3, :3], 1, 2)
        return self._given[:, :3, 3] - cameras[:, :3, 3], Rotation.from_matrix(missed).as_rotvec()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Fit:
    a_from_b: Sim3
    misfit: float
    """Median distance, made larger for a fit that ignores rotations."""


def _by_rotations(own: Array, given: Array) -> _Fit | None:
    """given_from_own with the mean of all relative rotations, medians of the rest; None: nothing moves."""
    turns = given[:, :3, :3] @ np.swapaxes(own[:, :3, :3], 1, 2)
    mean = rigid3.nearest_rotation(turns.sum(axis=0))
    for _ in range(10):  # to the median: chordal, by weights (Hartley et al., IJCV 2013)
        weights = 1 / np.maximum(rigid3.rotation_angle(mean.T @ turns), 1e-3)
        mean = rigid3.nearest_rotation((weights[:, None, None] * turns).sum(axis=0))
    turned, target = own[:, :3, 3] @ mean.T, given[:, :3, 3]
    ratio = _length_ratio(turned, target)
    if ratio is None:
        return None
    shift = np.median(target - ratio * turned, axis=0)
    return _fit(Sim3(scale=ratio, rotation=mean, translation=shift), own, given)


def _length_ratio(own: Array, given: Array) -> float | None:
    """Weighted median of given over own displacements along the own ones, over pairs far and near."""
    count = len(own)
    lags = sorted({max(1, count // part) for part in (2, 3, 4, 6, 8)})
    along = np.concatenate([np.einsum("pi,pi->p", given[n:] - given[:-n], own[n:] - own[:-n]) for n in lags])
    squared = np.concatenate([np.square(own[n:] - own[:-n]).sum(axis=1) for n in lags])
    moved = squared > 1e-12 * squared.max(initial=0.0)
    if not moved.any():
        return None
    ratios = along[moved] / squared[moved]
    order = np.argsort(ratios, kind="stable")
    cumulated = np.cumsum(squared[moved][order])
    ratio = float(ratios[order][np.searchsorted(cumulated, cumulated[-1] / 2)])
    return ratio if ratio > 0 else None


def _by_positions(own: Array, given: Array) -> _Fit | None:
    """given_from_own by the centres alone; None if they coincide."""
    b, a = own[:, :3, 3], given[:, :3, 3]
    try:
        initial = umeyama(b, a)
        fit = fit_robust(
            b, a, weights=np.ones(len(a)), residual_unit=np.ones(len(a)), initial=initial, max_iterations=50
        )
    except ValueError:
        return None
    found = _fit(fit.a_from_b, own, given)
    return replace(found, misfit=found.misfit / MOST_ROTATION_GAIN)


def _fit(a_from_b: Sim3, own: Array, given: Array) -> _Fit:
    off = given[:, :3, 3] - a_from_b.apply(own[:, :3, 3])
    return _Fit(a_from_b=a_from_b, misfit=float(np.median(np.linalg.norm(off, axis=1))))


def _too_few(found: int) -> InputError:
    return InputError(
        "too few frames have a prior pose",
        got=f"{found}",
        expected=f"at least {FEWEST_PRIORS}",
        hint="Check the times or names in the file of --poses, and --pose-offset; then run with --overwrite.",
    )


def _is_new(submap: SubmapCameras) -> NDArray[np.bool_]:
    """(N,) the frames that a submap owns: each frame has one such row."""
    return np.arange(len(submap.chunk.frames)) >= len(submap.chunk.context)


def _repeated(transform: Sim3, times: int) -> Sim3:
    return stack([transform] * times)


def _shifted(world_from_cam: Array, shift: Array) -> Array:
    moved = world_from_cam.copy()
    moved[:, :3, 3] += shift
    return moved
