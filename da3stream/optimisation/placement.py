"""Placement along a tree of trusted edges, and how far the other edges disagree with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation.edges import EdgeTable, Indices, stack, take
from da3stream.scene import SubmapEdge

Array = NDArray[np.float64]


def place_along(tree: Sequence[SubmapEdge], first: Sequence[Sim3]) -> Sim3:
    """(N,) poses: the first ones as given, every further one through its tree edge.

    Args:
        tree: edges that place node 1, 2, ...
        first: poses of the first nodes, at least of node 0.
    """
    world_from = list(first)
    for edge in tree[len(first) - 1 :]:
        world_from.append(world_from[edge.a] @ edge.a_from_b)
    return stack(world_from)


def squared_innovations(table: EdgeTable, tree: Indices, world_from: Sim3) -> Array:
    """(E,) squared Mahalanobis distance of every edge from what the tree alone predicts.

    The covariances along the tree's path between both ends and that of the edge itself add up (to first
    order, errors of the tree's edges being independent).
    """
    parent = np.concatenate([[0], table.a[tree]])
    spread = _spread(table, tree, world_from, parent)
    meeting = _common_ancestors(table.a, table.b, parent)
    adjoint = take(world_from, table.b).inverse().adjoint()
    path = spread[table.a] + spread[table.b] - 2 * spread[meeting]
    covariance = adjoint @ path @ np.swapaxes(adjoint, 1, 2) + table.covariance
    residuals = table.residuals(world_from)
    return np.einsum("ei,ei->e", residuals, np.linalg.solve(covariance, residuals[..., None])[..., 0])


def _spread(table: EdgeTable, tree: Indices, world_from: Sim3, parent: Indices) -> Array:
    """(N, 7, 7) covariances of left perturbations of the nodes, in the world, summed along the tree."""
    adjoint = take(world_from, slice(1, None)).adjoint()
    added = adjoint @ table.covariance[tree] @ np.swapaxes(adjoint, 1, 2)
    spread = np.zeros((table.nodes, 7, 7))
    for node in range(1, table.nodes):
        spread[node] = spread[parent[node]] + added[node - 1]
    return spread


def _common_ancestors(a: Indices, b: Indices, parent: Indices) -> Indices:
    """(E,) where the paths from a and b to node 0 meet; a parent has the smaller index."""
    while (a != b).any():
        a, b = np.where(a > b, parent[a], a), np.where(b > a, parent[b], b)
    return a
