"""Sparse normal equations of the pose graph: blocks of 7x7, ordered once, factorised at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray

from da3stream.optimisation.edges import EdgeTable, Indices

Array = NDArray[np.float64]

_LEAST_CURVATURE = 1e-14
"""Of the largest on the diagonal: keeps the scaling finite where nothing is measured."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Linearised:
    """H d = -g for the perturbations d of nodes 1 .. N-1, in blocks."""

    diagonal: Array
    """(N, 7, 7) blocks on the diagonal of H; node 0 is ignored."""
    off_diagonal: Array
    """(E, 7, 7) blocks H[a, b]."""
    gradient: Array
    """(N, 7)."""


def linearise(table: EdgeTable, by_a: Array, by_b: Array, residuals: Array, weights: Array) -> Linearised:
    """Gauss-Newton's approximation of sum w r^T information r / 2 around the current poses.

    Args:
        table: the edges.
        by_a: (E, 7, 7) derivatives of the residuals by node a.
        by_b: (E, 7, 7) derivatives by node b.
        residuals: (E, 7).
        weights: (E,) in 0 .. 1.
    """
    information = table.information * weights[:, None, None]
    weighted_a = np.swapaxes(by_a, 1, 2) @ information
    weighted_b = np.swapaxes(by_b, 1, 2) @ information
    diagonal, gradient = np.zeros((table.nodes, 7, 7)), np.zeros((table.nodes, 7))
    for nodes, weighted, by_node in ((table.a, weighted_a, by_a), (table.b, weighted_b, by_b)):
        np.add.at(diagonal, nodes, weighted @ by_node)
        np.add.at(gradient, nodes, np.einsum("eij,ej->ei", weighted, residuals))
    return Linearised(diagonal=diagonal, off_diagonal=weighted_a @ by_b, gradient=gradient)


class NormalEquations:
    """Solves one graph's normal equations again and again.

    A fill-reducing order (minimum degree) is found on the graph of nodes, 49 times smaller than the matrix,
    and used for whole blocks.
    """

    def __init__(self, table: EdgeTable) -> None:
        self._nodes = table.nodes - 1
        self._order = _elimination_order(table)
        position = np.empty(table.nodes, dtype=np.intp)
        position[self._order] = np.arange(self._nodes)
        position[0] = -1
        self._inner = (table.a > 0) & (table.b > 0)
        a, b = position[table.a[self._inner]], position[table.b[self._inner]]
        nodes = np.arange(self._nodes)
        self._rows = _block_indices(np.concatenate([nodes, a, b]), 0)
        self._columns = _block_indices(np.concatenate([nodes, b, a]), 1)

    def solve(self, system: Linearised, damping: float, right_sides: Array) -> Array:
        """(K, N, 7) solutions of (H + damping diag H) x = y for (K, N, 7) right-hand sides y; 0 at node 0.

        Raises:
            numpy.linalg.LinAlgError: the matrix is singular.
        """
        return self.solver(system, damping)(right_sides)

    def solver(self, system: Linearised, damping: float) -> Callable[[Array], Array]:
        """`solve` for any number of right-hand sides one after the other, with one factorisation."""
        curvature = np.einsum("nii->ni", system.diagonal)[self._order].reshape(-1)
        unit = 1.0 / np.sqrt(np.maximum(curvature, _LEAST_CURVATURE * curvature.max(initial=0.0)))
        factors = self._factorise(self._scaled(system, unit, damping))

        def solve(right_sides: Array) -> Array:
            stacked = right_sides[:, self._order].reshape(len(right_sides), -1) * unit
            solved = factors.solve(np.ascontiguousarray(stacked.T)).T * unit
            if not np.isfinite(solved).all():
                raise np.linalg.LinAlgError("the normal equations have no finite solution")
            solution = np.zeros_like(right_sides)
            solution[:, self._order] = solved.reshape(len(right_sides), -1, 7)
            return solution

        return solve

    def _scaled(self, system: Linearised, unit: Array, damping: float) -> scipy.sparse.csc_array:
        """The matrix with a diagonal of 1, free of units, plus the damping."""
        off_diagonal = system.off_diagonal[self._inner]
        blocks = [system.diagonal[self._order], off_diagonal, np.swapaxes(off_diagonal, 1, 2)]
        values = np.concatenate(blocks).reshape(-1)
        values *= unit[self._rows]
        values *= unit[self._columns]
        np.einsum("nii->ni", values[: 49 * self._nodes].reshape(-1, 7, 7))[...] += damping
        size = 7 * self._nodes
        matrix = scipy.sparse.csc_array((values, (self._rows, self._columns)), shape=(size, size))
        matrix.eliminate_zeros()  # edges that are not used
        return matrix

    @staticmethod
    def _factorise(matrix: scipy.sparse.csc_array) -> scipy.sparse.linalg.SuperLU:
        try:
            return scipy.sparse.linalg.splu(
                matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
            )
        except RuntimeError as error:
            raise np.linalg.LinAlgError("the normal equations are singular") from error


def _block_indices(blocks: Indices, axis: int) -> NDArray[np.int32]:
    """Row (axis 0) or column (axis 1) of every entry of 7x7 blocks, given the blocks' own row or column."""
    within = np.indices((7, 7))[axis].reshape(-1)
    return (7 * blocks[:, None] + within).reshape(-1).astype(np.int32)


def _elimination_order(table: EdgeTable) -> Indices:
    """Nodes 1 .. N-1 in the order of elimination."""
    inner = (table.a > 0) & (table.b > 0)
    a, b = table.a[inner] - 1, table.b[inner] - 1
    size = table.nodes - 1
    pattern = scipy.sparse.csc_array((np.full(len(a), -1.0), (a, b)), shape=(size, size))
    degree = 2.0 + np.bincount(np.concatenate([a, b]), minlength=size)
    dominant = scipy.sparse.csc_array(pattern + pattern.T + scipy.sparse.diags_array(degree))
    factors = scipy.sparse.linalg.splu(
        dominant, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return np.argsort(factors.perm_c) + 1
