"""Shared frames of two submaps -> an edge of the pose graph."""

from da3stream.alignment.edge import align_submaps

__all__ = ["align_submaps"]
