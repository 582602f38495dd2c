"""Submaps one after the other, each through its most trusted edge: what there is before an optimisation."""

from __future__ import annotations

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation.edges import EdgeTable, tree_edges, unstack
from da3stream.optimisation.placement import place_along
from da3stream.scene import PoseGraph


def place_submaps(graph: PoseGraph, world_from_first: Sim3) -> list[Sim3]:
    """world_from_submap of every node."""
    tree = tree_edges(EdgeTable.of(graph), graph.edges)
    return unstack(place_along([graph.edges[row] for row in tree], [world_from_first]))
