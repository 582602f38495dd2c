"""Which images of a chunk hang together firmly enough to be reconstructed as one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.view_graph import ViewGraph

MIN_CUT_MATCHES = 50
"""Two groups of images with fewer matches between them are not one reconstruction: a mapper still joins them,
in a wrong place that no match contradicts. Measured at a jump in a video: 71 matches sufficed, 23 did not."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cut:
    """The cheapest way to split a graph in two."""

    weight: float
    side: NDArray[np.bool_]
    """(N,) True for the nodes on one side."""


def firmly_connected(graph: ViewGraph) -> NDArray[np.bool_]:
    """(N,) True for the largest group of images that no cut of fewer than `MIN_CUT_MATCHES` matches
    splits."""
    weights = np.zeros((len(graph.keypoints), len(graph.keypoints)))
    for (first, second), view in zip(graph.pairs.tolist(), graph.two_views, strict=True):
        weights[first, second] = weights[second, first] = len(view.matches)
    members = np.arange(len(weights))
    while len(members) > 1:
        cut = minimum_cut(weights[np.ix_(members, members)])
        if cut.weight >= MIN_CUT_MATCHES:
            break
        larger = cut.side if 2 * cut.side.sum() >= len(members) else ~cut.side
        members = members[larger]
    mask = np.zeros(len(weights), dtype=bool)
    mask[members] = True
    return mask


def restricted(graph: ViewGraph, images: NDArray[np.bool_]) -> ViewGraph:
    """The graph without the pairs that leave a group of images; all images keep their numbers."""
    rows = np.flatnonzero(images[graph.pairs].all(axis=1))
    return ViewGraph(
        keypoints=graph.keypoints,
        pairs=graph.pairs[rows],
        two_views=tuple(graph.two_views[row] for row in rows),
    )


def minimum_cut(weights: NDArray[np.float64]) -> Cut:
    """The global minimum cut of an undirected graph of at least two nodes (Stoer and Wagner, JACM 1997).

    Args:
        weights: (N, N) symmetric, >= 0, zero on the diagonal.
    """
    remaining = weights.copy()
    groups = np.eye(len(weights), dtype=bool)
    best = Cut(weight=np.inf, side=groups[0])
    while len(remaining) > 1:
        order = _maximum_adjacency_order(remaining)
        last, before = order[-1], order[-2]
        phase_weight = float(remaining[last].sum())
        if phase_weight < best.weight:
            best = Cut(weight=phase_weight, side=groups[last].copy())
        groups[before] |= groups[last]
        remaining[before] += remaining[last]
        remaining[:, before] = remaining[before]
        remaining[before, before] = 0.0
        kept = np.arange(len(remaining)) != last
        remaining, groups = remaining[np.ix_(kept, kept)], groups[kept]
    return best


def _maximum_adjacency_order(weights: NDArray[np.float64]) -> list[int]:
    """Nodes in the order in which each is the one most tightly connected to those before it."""
    connection = weights[0].copy()
    taken = np.zeros(len(weights), dtype=bool)
    taken[0] = True
    order = [0]
    while len(order) < len(weights):
        node = int(np.where(taken, -1.0, connection).argmax())
        taken[node] = True
        order.append(node)
        connection += weights[node]
    return order
