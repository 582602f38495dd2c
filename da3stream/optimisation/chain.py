"""Places every submap through its most informative edge to an earlier one.

With a plain sliding window the pose graph is a chain and this is its exact solution, for any prefix of the
video too. Redundant edges (loops, coarse chunks) need the Sim(3) pose graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from da3stream.geometry.sim3 import Sim3
from da3stream.scene import PoseGraph, SubmapEdge


def place_submap(edges: Sequence[SubmapEdge], world_from: Sequence[Sim3]) -> Sim3:
    """world_from_submap of the next submap.

    Args:
        edges: from the next submap to earlier ones; at least one.
        world_from: of the earlier submaps, by index.
    """
    best = max(edges, key=lambda edge: float(np.linalg.slogdet(edge.information)[1]))
    return world_from[best.a] @ best.a_from_b


def place_submaps(graph: PoseGraph, world_from_first: Sim3) -> list[Sim3]:
    """world_from_submap of every node.

    Args:
        graph: every node but the first has an edge to an earlier one.
        world_from_first: where submap 0 lies; fixes position, orientation and scale of everything.

    Raises:
        ValueError: a submap has no edge to an earlier one.
    """
    edges_to: dict[int, list[SubmapEdge]] = {}
    for edge in graph.edges:
        edges_to.setdefault(edge.b, []).append(edge)
    world_from = [world_from_first]
    for node in range(1, graph.nodes):
        if node not in edges_to:
            raise ValueError(f"submap {node} has no edge to an earlier one")
        world_from.append(place_submap(edges_to[node], world_from))
    return world_from
