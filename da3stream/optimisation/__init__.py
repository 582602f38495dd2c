"""Pose graph of submaps -> where each submap, and each of its cameras, lies in the world."""

from da3stream.optimisation.distortion import Distortion
from da3stream.optimisation.placing import Placement, place
from da3stream.optimisation.pose_graph import OptimisationReport, OptimisedGraph, PoseGraphOptions, optimise

__all__ = [
    "Distortion",
    "OptimisationReport",
    "OptimisedGraph",
    "Placement",
    "PoseGraphOptions",
    "optimise",
    "place",
]
