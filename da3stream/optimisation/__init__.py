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
from da3stream.optimisation.pose_priors import FEWEST_PRIORS, PosePriors, PriorReport

__all__ = [
    "FEWEST_PRIORS",
    "Distortion",
    "KnownPlacement",
    "OptimisationReport",
    "OptimisedGraph",
    "Placement",
    "PoseGraphOptions",
    "PosePriors",
    "PriorReport",
    "at_known",
    "log_ratio_of",
    "log_scale_of",
    "optimise",
    "place",
    "place_at_known",
    "pose_uncertainties",
]
