"""Pose graph of submaps -> where each submap lies in the world."""

from da3stream.optimisation.chain import place_submap, place_submaps
from da3stream.optimisation.pose_graph import OptimisationReport, OptimisedGraph, PoseGraphOptions, optimise

__all__ = [
    "OptimisationReport",
    "OptimisedGraph",
    "PoseGraphOptions",
    "optimise",
    "place_submap",
    "place_submaps",
]
