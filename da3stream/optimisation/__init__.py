"""Pose graph of submaps -> where each submap, and each of its cameras, lies in the world."""

from da3stream.optimisation.distortion import Distortion, pose_uncertainties
from da3stream.optimisation.known_poses import (
    KnownPlacement,
    at_known,
    log_ratio_of,
    log_scale_of,
    place_at_known,
)
from da3stream.optimisation.placing import Placement, place
from da3stream.optimisation.pose_graph import OptimisationReport, OptimisedGraph, PoseGraphOptions, optimise

__all__ = [
    "Distortion",
    "KnownPlacement",
    "OptimisationReport",
    "OptimisedGraph",
    "Placement",
    "PoseGraphOptions",
    "at_known",
    "log_ratio_of",
    "log_scale_of",
    "optimise",
    "place",
    "place_at_known",
    "pose_uncertainties",
]
