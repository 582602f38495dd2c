"""Submaps as nodes, Sim(3) measurements between them as edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.sim3 import Sim3
from da3stream.scene._checks import check_array

EdgeKind = Literal["overlap", "coarse", "memory", "loop"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SubmapEdge:
    """A measured transform between two submaps that share frames."""

    a: int
    """Chunk index of the earlier submap."""
    b: int
    """Chunk index of the later submap."""
    a_from_b: Sim3
    """Takes points of submap b to submap a."""
    information: NDArray[np.float64]
    """(7, 7) inverse covariance of a right perturbation of `a_from_b` (rotation, translation, log-scale)."""
    kind: EdgeKind = "overlap"
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What the measurement rests on, in plain JSON values: method, shared frames, inlier ratio, residual."""

    def __post_init__(self) -> None:
        check_array("information", self.information, (7, 7), np.float64)
        if self.a >= self.b:
            raise ValueError(f"an edge goes from an earlier to a later submap, got {self.a} and {self.b}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PoseGraph:
    """Submaps as nodes, measurements as edges. Node 0 fixes the gauge."""

    nodes: int
    """Number of submaps; their indices are 0 .. nodes - 1."""
    edges: tuple[SubmapEdge, ...]
    metric_nodes: frozenset[int] = frozenset()
    """Submaps whose own unit is the metre, as their estimator says."""

    def __post_init__(self) -> None:
        for edge in self.edges:
            if edge.b >= self.nodes:
                raise ValueError(f"edge {edge.a} - {edge.b} leaves a graph of {self.nodes} nodes")
        for node in self.metric_nodes:
            if not 0 <= node < self.nodes:
                raise ValueError(f"metric submap {node} is not in a graph of {self.nodes} nodes")
