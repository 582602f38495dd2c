"""The edges of a pose graph as arrays, their residuals and derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import lie
from da3stream.scene import PoseGraph, SubmapEdge

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_BLIND = 1e-9
"""Share of an edge's own information that is assumed in a direction in which it has none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EdgeTable:
    """All edges of a graph, row by row."""

    nodes: int
    a: Indices
    """(E,) earlier nodes."""
    b: Indices
    """(E,) later nodes."""
    a_from_b: Sim3
    """(E,) measurements."""
    information: Array
    """(E, 7, 7) inverse covariance of a right perturbation of the measurement, in the unit of submap b."""
    covariance: Array
    """(E, 7, 7) its inverse, large but finite in blind directions."""
    is_overlap: NDArray[np.bool_]
    """(E,) edges of consecutive chunks, which are never doubted."""

    @classmethod
    def of(cls, graph: PoseGraph) -> EdgeTable:
        """The edges in the order of the graph."""
        information = np.array([edge.information for edge in graph.edges]).reshape(-1, 7, 7)
        return cls(
            nodes=graph.nodes,
            a=np.array([edge.a for edge in graph.edges], dtype=np.intp),
            b=np.array([edge.b for edge in graph.edges], dtype=np.intp),
            a_from_b=stack([edge.a_from_b for edge in graph.edges]),
            information=information,
            covariance=_covariance(information),
            is_overlap=np.array([edge.kind == "overlap" for edge in graph.edges], dtype=np.bool_),
        )

    def __len__(self) -> int:
        return len(self.a)

    def residuals(self, world_from: Sim3) -> Array:
        """(E, 7) r = log(a_from_b^-1 W_a^-1 W_b) at poses W = `world_from` (N,)."""
        placed = take(world_from, self.a).inverse() @ take(world_from, self.b)
        return lie.log(self.a_from_b.inverse() @ placed)

    def squared_mahalanobis(self, residuals: Array) -> Array:
        """(E,) r^T information r."""
        return np.einsum("ei,eij,ej->e", residuals, self.information, residuals)

    def jacobians(self, world_from: Sim3, residuals: Array) -> tuple[Array, Array]:
        """(E, 7, 7) derivatives of the residuals by right perturbations of W_a and of W_b.

        With E = a_from_b^-1 W_a^-1 W_b: perturbing W_b gives E exp(d), perturbing W_a gives
        E exp(-Ad(W_b^-1 W_a) d).
        """
        by_b = lie.inverse_right_jacobian(residuals)
        b_from_a = take(world_from, self.b).inverse() @ take(world_from, self.a)
        return -by_b @ b_from_a.adjoint(), by_b


def stack(transforms: Sequence[Sim3]) -> Sim3:
    """(E,) transforms as one."""
    return Sim3(
        scale=np.array([t.scale for t in transforms]).reshape(-1),
        rotation=np.array([t.rotation for t in transforms]).reshape(-1, 3, 3),
        translation=np.array([t.translation for t in transforms]).reshape(-1, 3),
    )


def take(transforms: Sim3, rows: Indices | NDArray[np.bool_] | slice) -> Sim3:
    """Some rows of (N,) transforms."""
    return Sim3(
        scale=transforms.scale[rows],
        rotation=transforms.rotation[rows],
        translation=transforms.translation[rows],
    )


def unstack(transforms: Sim3) -> list[Sim3]:
    """(N,) transforms one by one."""
    rows = zip(transforms.scale, transforms.rotation, transforms.translation, strict=True)
    return [Sim3(scale=scale, rotation=rotation, translation=shift) for scale, rotation, shift in rows]


def tree_edges(table: EdgeTable, edges: Sequence[SubmapEdge]) -> Indices:
    """(N - 1,) row of the edge that places node 1, 2, ...: overlap before others, then the more informative.

    A loop hangs on another loop only if on nothing else: the other one may be wrong.

    Raises:
        ValueError: a node has no edge to an earlier one.
    """
    rank = {"overlap": 3, "coarse": 2, "memory": 1, "loop": 0}
    loops = {edge.b for edge in edges if edge.kind == "loop"} - {e.b for e in edges if e.kind != "loop"}

    def merit(row: int) -> tuple[int, bool, float]:
        return rank[edges[row].kind], edges[row].a not in loops, float(log_det[row])

    log_det = np.linalg.slogdet(table.information)[1] if len(table) else np.zeros(0)
    best: dict[int, int] = {}
    for row, edge in enumerate(edges):
        other = best.get(edge.b)
        if other is None or merit(row) > merit(other):
            best[edge.b] = row
    for node in range(1, table.nodes):
        if node not in best:
            raise ValueError(f"submap {node} has no edge to an earlier one")
    return np.array([best[node] for node in range(1, table.nodes)], dtype=np.intp)


def _covariance(information: Array) -> Array:
    diagonal = np.einsum("eii->ei", information)
    unit = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    both = unit[:, :, None] * unit[:, None, :]
    return np.linalg.inv(information * both + _BLIND * np.eye(7)) * both
