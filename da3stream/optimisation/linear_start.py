"""Linear averaging: log-scales, then rotations, then translations.

Each stage is a sparse linear least-squares problem, so that no error accumulated along a chain is too large
for it (Martinec and Pajdla, "Robust Rotation and Translation Estimation in Multiview Reconstruction", CVPR
2007; chordal rotations: Carlone et al., "Initialization Techniques for 3D SLAM", ICRA 2015). In each stage
wrong edges are weighted down by graduated non-convexity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from da3stream.geometry import rigid3
from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import robust
from da3stream.optimisation.edges import EdgeTable
from da3stream.optimisation.least_squares import least_squares
from da3stream.optimisation.scale_prior import ScalePrior

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LinearStart:
    """Poses from linear averaging and what it made of the edges."""

    world_from: Sim3
    """(N,)"""
    weights: Array
    """(E,) 0 or 1: edges that all three stages agree with."""


def average(
    table: EdgeTable,
    world_from_first: Sim3,
    *,
    weights: Array,
    judged: NDArray[np.bool_],
    prior: ScalePrior | None,
    max_variance_factor: float,
) -> LinearStart:
    """Average the edges' measurements.

    Args:
        table: the edges.
        world_from_first: pose of node 0.
        weights: (E,) first weights.
        judged: (E,) which edges may be wrong.
        prior: on the scales of metric nodes.
        max_variance_factor: see `robust.threshold`.
    """
    stages = _Stages(table, world_from_first, prior)
    for step, dof in ((stages.scales, 1), (stages.rotations, 3), (stages.translations, 3)):
        agreed = robust.anneal(step, weights, judged & (weights > 0), dof, max_variance_factor)
        step(agreed)
        weights = agreed
    return LinearStart(
        world_from=Sim3(
            scale=np.exp(stages.log_scale), rotation=stages.rotation, translation=stages.translation
        ),
        weights=weights,
    )


class _Stages:
    """The three linear problems, each using the solution of those before."""

    def __init__(self, table: EdgeTable, first: Sim3, prior: ScalePrior | None) -> None:
        self._table, self._first, self._prior = table, first, prior
        self.log_scale = np.zeros(table.nodes)
        self.rotation = np.broadcast_to(np.eye(3), (table.nodes, 3, 3))
        self.translation = np.zeros((table.nodes, 3))
        edges = np.arange(len(table))
        signs, ones = np.ones(len(table)), (len(table), table.nodes)
        self._difference = scipy.sparse.csr_array((signs, (edges, table.b)), shape=ones)
        self._difference -= scipy.sparse.csr_array((signs, (edges, table.a)), shape=ones)

    def scales(self, weights: Array) -> Array:
        """Solve log s_b - log s_a = log s_ab; (E,) squared residuals in standard deviations."""
        table = self._table
        variance = table.covariance[:, 6, 6]
        measured = np.log(table.a_from_b.scale)
        jacobian, rows, certainty = self._difference, measured, weights / variance
        if self._prior is not None:
            # One more unknown, the world's log-scale in metres, and one more row for each metric node.
            jacobian = scipy.sparse.block_array(
                [[self._difference, None], [self._prior.selection(table.nodes), -self._prior.ones]]
            ).tocsr()
            rows = np.concatenate([measured, np.zeros(self._prior.count)])
            certainty = np.concatenate([certainty, np.full(self._prior.count, self._prior.sigma**-2)])
        first = np.log(self._first.scale).reshape(1, 1)
        self.log_scale = least_squares(jacobian, certainty, rows[:, None], first)[: table.nodes, 0]
        return np.square(self._difference @ self.log_scale - measured) / variance

    def rotations(self, weights: Array) -> Array:
        """Solve R_b = R_a R_ab for 3x3 matrices, then take the nearest rotations."""
        table = self._table
        variance = np.trace(table.covariance[:, :3, :3], axis1=1, axis2=2) / 3
        edges = np.arange(len(table))
        # The unknowns are the transposes: R_b^T - R_ab^T R_a^T = 0.
        turned = -np.swapaxes(table.a_from_b.rotation, 1, 2)
        blocks = np.concatenate([np.broadcast_to(np.eye(3), turned.shape), turned])
        rows = 3 * np.concatenate([edges, edges])[:, None] + np.repeat(np.arange(3), 3)
        columns = 3 * np.concatenate([table.b, table.a])[:, None] + np.tile(np.arange(3), 3)
        jacobian = scipy.sparse.csr_array(
            (blocks.reshape(-1), (rows.reshape(-1), columns.reshape(-1))),
            shape=(3 * len(table), 3 * table.nodes),
        )
        zero, certainty = np.zeros((3 * len(table), 3)), np.repeat(weights / variance, 3)
        solved = least_squares(jacobian, certainty, zero, self._first.rotation.T).reshape(-1, 3, 3)
        self.rotation = rigid3.nearest_rotation(np.swapaxes(solved, 1, 2))
        missed = self.rotation[table.a] @ table.a_from_b.rotation - self.rotation[table.b]
        return np.square(missed).sum(axis=(1, 2)) / (2 * variance)

    def translations(self, weights: Array) -> Array:
        """Solve t_b - t_a = s_a R_a t_ab."""
        table = self._table
        turned = (self.rotation[table.a] @ table.a_from_b.translation[..., None])[..., 0]
        measured = np.exp(self.log_scale[table.a])[:, None] * turned
        variance = np.trace(table.covariance[:, 3:6, 3:6], axis1=1, axis2=2) / 3
        variance = variance * np.exp(2 * self.log_scale[table.b])
        first = self._first.translation[None]
        self.translation = least_squares(self._difference, weights / variance, measured, first)
        return np.square(self._difference @ self.translation - measured).sum(axis=1) / variance
