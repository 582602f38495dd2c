"""Pose graph of submaps -> where each submap lies in the world."""

from da3stream.optimisation.chain import place_submap, place_submaps

__all__ = ["place_submap", "place_submaps"]
