"""Poses of all submaps from all measurements between them: Levenberg-Marquardt on Sim(3).

The cost is the sum of w r^T information r over the edges, with r = log(a_from_b^-1 W_a^-1 W_b), poses
W = world_from_submap perturbed on the right, and weights w that are 0 for edges found to be wrong (Strasdat,
Montiel and Davison, "Scale Drift-Aware Large Scale Monocular SLAM", RSS 2010). Node 0 stays where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import lie, linear_start, robust
from da3stream.optimisation.edges import EdgeTable, Indices, tree_edges, unstack
from da3stream.optimisation.normal_equations import Linearised, NormalEquations, linearise
from da3stream.optimisation.placement import place_along, squared_innovations
from da3stream.optimisation.scale_prior import ScalePrior
from da3stream.scene import PoseGraph

Array = NDArray[np.float64]

_DOF = 7
_LEAST_DAMPING = 1e-12
"""Anything smaller is 0: a long chain bends as softly as that, and damping would slow it down."""
_LARGEST_DAMPING = 1e8
_MAX_JUDGEMENTS = 5
"""How often the weights are settled anew after convergence."""
_SETTLED = 0.002
"""Judgements that change no more than this share of the edges are the last: the map hardly moves."""
_MAX_REVIEWED = 12
"""Refused edges that are looked at again in one judgement: each costs seven solutions."""
_SECOND_CHANCE = 3.0
"""They come in below so many limits (squared): used, they have to stay below one."""
_SYSTEMATIC = 16.0
"""Errors along a chain add up instead of averaging out: squared, so much more is plausible at its end. Of
submaps that all shrink alike, a factor of 10 in 20 of them is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoseGraphOptions:
    """How to optimise."""

    max_iterations: int = 100
    """Of Levenberg-Marquardt with weights that stay, after those of the annealing."""
    relative_decrease: float = 1e-10
    """Converged when a step is predicted to lower the cost by no more than this share of it."""
    absolute_decrease: float = 1e-12
    """The same in squared standard deviations, for costs near 0."""
    max_variance_factor: float = 100.0
    """How far the information of the edges may overstate: true over claimed variance, >= 1."""
    scale_prior: float | None = None
    """Standard deviation of the log-scale of a metric submap; None leaves scales to the edges."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OptimisationReport:
    """How an optimisation went."""

    iterations: int
    """Accepted steps."""
    cost_before: float
    """Of the placement along the tree (or of `initial`), with the final weights."""
    cost_after: float
    """Weighted sum of squared Mahalanobis distances, prior included."""
    mahalanobis: Array
    """(E,) residuals of the edges, in their standard deviations, weight not included."""
    weights: Array
    """(E,) 1 used, 0 found to be wrong. Overlap edges and the one edge that places a node are always used."""
    variance_factor: float
    """cost_after per degree of freedom: 1 where the information is honest; nan without redundancy."""
    converged: bool
    reason: str
    """Why the iteration ended."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OptimisedGraph:
    """Result of `optimise`."""

    world_from: list[Sim3]
    """world_from_submap of every node."""
    report: OptimisationReport


def optimise(
    graph: PoseGraph, initial: Sequence[Sim3] | None = None, *, options: PoseGraphOptions | None = None
) -> OptimisedGraph:
    """The poses that fit the edges best.

    Edges that are not of kind overlap may be wrong. What contradicts the chain by more than its uncertainty
    is out at first; linear averaging gives a start; graduated non-convexity settles which edges count.

    Args:
        graph: every node but the first has an edge to an earlier one.
        initial: poses of the first nodes, at least of node 0, whose pose stays; identity without.
        options: see there.

    Raises:
        ValueError: a node has no edge to an earlier one, `initial` has no pose or too many, or an option is
            out of range.
    """
    options = options or PoseGraphOptions()
    first = [Sim3.identity()] if initial is None else list(initial)
    _check(graph, first, options)
    table = EdgeTable.of(graph)
    tree = tree_edges(table, graph.edges)
    placed = place_along([graph.edges[row] for row in tree], first)
    prior = ScalePrior.of(graph.metric_nodes, options.scale_prior)
    descent = _Descent(table, prior, placed, options)
    if graph.nodes > 1:
        weights = _settle(descent, tree, placed, options)
    else:
        weights, descent.converged, descent.reason = np.ones(0), True, "nothing to optimise"
    return OptimisedGraph(
        world_from=[first[0], *unstack(descent.world_from)[1:]], report=descent.report(placed, weights)
    )


def _check(graph: PoseGraph, first: list[Sim3], options: PoseGraphOptions) -> None:
    if not 1 <= len(first) <= graph.nodes:
        raise ValueError(f"initial must hold 1 .. {graph.nodes} poses, got {len(first)}")
    if options.max_variance_factor < 1:
        raise ValueError(f"max_variance_factor must be >= 1, got {options.max_variance_factor}")
    if options.scale_prior is not None and not options.scale_prior > 0:
        raise ValueError(f"scale_prior must be > 0, got {options.scale_prior}")


def _settle(descent: _Descent, tree: Indices, placed: Sim3, options: PoseGraphOptions) -> Array:
    """Optimise poses and weights; the (E,) final weights."""
    table = descent.table
    doubtful = ~table.is_overlap
    doubtful[tree] = False
    first = Sim3(scale=placed.scale[0], rotation=placed.rotation[0], translation=placed.translation[0])
    plausible = _plausible(table, tree, placed, options) | ~doubtful
    start = linear_start.average(
        table,
        first,
        weights=plausible.astype(np.float64),
        judged=doubtful,
        prior=descent.prior,
        max_variance_factor=options.max_variance_factor,
    )
    descent.try_instead(start.world_from, start.weights)
    weights = robust.anneal(
        descent.step, start.weights, doubtful & plausible, _DOF, options.max_variance_factor
    )
    for _ in range(_MAX_JUDGEMENTS):
        squared = descent.minimise(weights)
        if not doubtful.any():
            return weights
        limit = robust.threshold(squared[doubtful], _DOF, options.max_variance_factor)
        judged = np.where(doubtful, (squared <= limit).astype(np.float64), weights)
        judged[_agreeing(descent, tree, weights, _SECOND_CHANCE * limit)] = 1.0
        changed = float(np.mean(judged != weights))
        if changed == 0:
            return weights
        weights = judged
        if changed <= _SETTLED:
            break
    descent.minimise(weights)
    return weights


def _plausible(table: EdgeTable, tree: Indices, placed: Sim3, options: PoseGraphOptions) -> NDArray[np.bool_]:
    """(E,) whether an edge could be right, given the uncertainty of the placement along the tree."""
    limit = chi2.ppf(robust.INLIER_QUANTILE, _DOF) * options.max_variance_factor * _SYSTEMATIC
    return squared_innovations(table, tree, placed) <= limit


def _agreeing(descent: _Descent, tree: Indices, weights: Array, limit: float) -> Indices:
    """Refused edges that agree with the current poses, given how uncertain these are.

    The tree alone is more uncertain than the whole graph, and cheap: what disagrees with it needs no more.
    """
    table = descent.table
    refused = np.flatnonzero(weights == 0)
    loosely = squared_innovations(table, tree, descent.world_from)[refused]
    order = np.argsort(loosely, kind="stable")[:_MAX_REVIEWED]
    reviewed = refused[order[loosely[order] <= limit]]
    if not len(reviewed):
        return reviewed
    return reviewed[descent.squared_innovations(reviewed, weights) <= limit]


class _Descent:
    """Levenberg-Marquardt, one step at a time, with weights that may change between the steps."""

    def __init__(
        self, table: EdgeTable, prior: ScalePrior | None, world_from: Sim3, options: PoseGraphOptions
    ) -> None:
        self.table, self.prior, self.world_from = table, prior, world_from
        self._residuals = table.residuals(world_from)
        self.iterations, self.converged, self.reason = 0, False, ""
        self._options = options
        self._damping = 0.0
        self._equations = NormalEquations(table) if table.nodes > 1 else None

    def squared(self) -> Array:
        """(E,) squared Mahalanobis distances at the current poses."""
        return self.table.squared_mahalanobis(self._residuals)

    def try_instead(self, world_from: Sim3, weights: Array) -> float:
        """Move to other poses if they cost less; by how much less, negative if they cost more."""
        residuals = self.table.residuals(world_from)
        current = self._cost(self.world_from, self._residuals, weights)
        decrease = current - self._cost(world_from, residuals, weights)
        if decrease > 0:
            self.world_from, self._residuals = world_from, residuals
        return decrease

    def step(self, weights: Array) -> Array:
        """One accepted step, unless converged; the (E,) squared Mahalanobis distances after it."""
        self._descend(self._linearise(weights)[0], weights)
        return self.squared()

    def squared_innovations(self, rows: Indices, weights: Array) -> Array:
        """(R,) squared Mahalanobis distances of unused edges from what the used ones predict.

        The covariance of the prediction is J H^-1 J^T, that of the measurement adds to it.
        """
        assert self._equations is not None
        system, by_a, by_b = self._linearise(weights)
        solve = self._equations.solver(system, self._damping)
        predicted = np.zeros((len(rows), 7, 7))
        for number, row in enumerate(rows):  # one at a time: right-hand sides are as long as the map
            a, b = self.table.a[row], self.table.b[row]
            right_sides = np.zeros((7, self.table.nodes, 7))
            right_sides[:, a], right_sides[:, b] = by_a[row], by_b[row]
            solved = solve(right_sides)
            predicted[number] = solved[:, a] @ by_a[row].T + solved[:, b] @ by_b[row].T
        residuals = self._residuals[rows]
        covariance = predicted + self.table.covariance[rows]
        return np.einsum("ei,ei->e", residuals, np.linalg.solve(covariance, residuals[..., None])[..., 0])

    def minimise(self, weights: Array) -> Array:
        """Steps until convergence; the (E,) squared Mahalanobis distances there."""
        self.converged, self.reason = False, f"reached {self._options.max_iterations} iterations"
        for _ in range(self._options.max_iterations):
            squared = self.step(weights)
            if self.converged or self._damping > _LARGEST_DAMPING:
                break
        return squared

    def report(self, placed: Sim3, weights: Array) -> OptimisationReport:
        """Of the current poses."""
        cost = self._cost(self.world_from, self._residuals, weights)
        redundancy = _DOF * (int((weights > 0).sum()) - self.table.nodes + 1)
        redundancy += self.prior.count - 1 if self.prior else 0
        return OptimisationReport(
            iterations=self.iterations,
            cost_before=self._cost(placed, self.table.residuals(placed), weights),
            cost_after=cost,
            mahalanobis=np.sqrt(np.maximum(self.squared(), 0.0)),
            weights=weights,
            variance_factor=cost / redundancy if redundancy > 0 else float("nan"),
            converged=self.converged,
            reason=self.reason,
        )

    def _linearise(self, weights: Array) -> tuple[Linearised, Array, Array]:
        """The system at the current poses, and the (E, 7, 7) derivatives by node a and node b."""
        by_a, by_b = self.table.jacobians(self.world_from, self._residuals)
        system = linearise(self.table, by_a, by_b, self._residuals, weights)
        if self.prior is not None:
            system = _with_prior(system, self.prior, self.world_from.scale)
        return system, by_a, by_b

    def _cost(self, world_from: Sim3, residuals: Array, weights: Array) -> float:
        """Weighted sum of squared residuals, prior included."""
        prior_cost = self.prior.cost(world_from.scale) if self.prior else 0.0
        return float(weights @ self.table.squared_mahalanobis(residuals)) + prior_cost

    def _descend(self, system: Linearised, weights: Array) -> None:
        cost = self._cost(self.world_from, self._residuals, weights)
        enough = self._options.relative_decrease * cost + self._options.absolute_decrease
        self.converged = False
        while self._damping <= _LARGEST_DAMPING:
            try:
                step = self._solve(system)
            except np.linalg.LinAlgError:
                self._damping = max(10 * self._damping, _LEAST_DAMPING)
                continue
            predicted = -float(np.vdot(step, system.gradient))
            if predicted <= enough:
                self.converged, self.reason = True, "the cost falls no further"
                return
            if self.try_instead(self.world_from @ lie.exp(step), weights) > 0:
                self.iterations += 1
                self._damping = self._damping / 10 if self._damping > _LEAST_DAMPING else 0.0
                return
            self._damping = max(10 * self._damping, _LEAST_DAMPING)
        self.reason = "no step lowers the cost"

    def _solve(self, system: Linearised) -> Array:
        """(N, 7) step. The prior's eliminated unknown takes a matrix of rank one away (Sherman-Morrison)."""
        assert self._equations is not None
        right_sides = [-system.gradient]
        if self.prior is not None:
            removed = np.zeros_like(system.gradient)
            removed[self.prior.nodes, 6] = 1.0 / (self.prior.sigma * np.sqrt(self.prior.count))
            removed[0] = 0.0
            right_sides.append(removed)
        step, *others = self._equations.solve(system, self._damping, np.stack(right_sides))
        for response in others:
            gain = float(np.vdot(removed, step)) / (1.0 - float(np.vdot(removed, response)))
            step = step + gain * response
        return step


def _with_prior(system: Linearised, prior: ScalePrior, scale: Array) -> Linearised:
    """The equations plus the prior's, apart from the matrix of rank one that eliminates its unknown."""
    diagonal, gradient = system.diagonal.copy(), system.gradient.copy()
    diagonal[prior.nodes, 6, 6] += prior.sigma**-2
    gradient[prior.nodes, 6] += prior.deviations(scale) / prior.sigma
    return Linearised(diagonal=diagonal, off_diagonal=system.off_diagonal, gradient=gradient)
