"""Everything from measured edges to the cameras of all submaps in the world."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation.distortion import Distortion, estimate, honest_edges
from da3stream.optimisation.elastic import bend
from da3stream.optimisation.pose_graph import OptimisationReport, PoseGraphOptions, optimise
from da3stream.optimisation.pose_priors import PosePriors, PriorReport, pull
from da3stream.scene import PlacedCameras, PoseGraph, SubmapCameras, SubmapEdge

MAX_VARIANCE_FACTOR = 25.0
"""Of information that knows of the distortion: room for errors that are the same in all submaps."""

RELATIVE_DECREASE = 1e-5
"""Of the cost: the map moves by far less than its uncertainty, and bending moves it by more."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Placement:
    """Where all submaps and their cameras lie."""

    rigid: list[Sim3]
    """world_from_submap of every submap as a whole."""
    cameras: list[PlacedCameras]
    """Of every submap, bent."""
    report: OptimisationReport
    """Of the rigid placement; which edges are used (and bend the submaps) and which are refused."""
    distortion: Distortion
    """How much the submaps bend."""
    priors: PriorReport | None = None
    """What became of prior poses."""


def place(
    submaps: Sequence[SubmapCameras],
    edges: Sequence[SubmapEdge],
    first: Sim3,
    metric_nodes: Collection[int] = (),
    scale_prior: float | None = None,
    priors: PosePriors | None = None,
) -> Placement:
    """Weigh the edges, place the submaps as rigid bodies, refuse wrong edges, then let the submaps bend.

    Args:
        submaps: all of them; the position is the chunk index.
        edges: as alignment measures them, with "frames" and "depth_ratios" in their evidence.
        first: pose of submap 0; its first camera stays exactly there, unless there are priors.
        metric_nodes: submaps in metres.
        scale_prior: standard deviation of the log-scale of a metric submap; None leaves scales to the edges.
        priors: poses of some frames, which may err; the result lies in their frame and unit.

    Raises:
        ValueError: a submap has no edge to an earlier one, or an edge lacks its evidence.
        InputError: the priors tell no frame and unit.
    """
    distortion = estimate(submaps, edges)
    honest = honest_edges(submaps, edges, distortion)
    options = PoseGraphOptions(
        max_variance_factor=MAX_VARIANCE_FACTOR, relative_decrease=RELATIVE_DECREASE, scale_prior=scale_prior
    )
    metric = frozenset(metric_nodes)
    graph = PoseGraph(nodes=len(submaps), edges=honest, metric_nodes=metric)
    free = optimise(graph, [first], options=options)
    if priors is None:
        used = _used(edges, free.report)
        return Placement(
            rigid=free.world_from,
            cameras=bend(submaps, used, free.world_from, distortion),
            report=free.report,
            distortion=distortion,
        )
    pulled = pull(submaps, honest, free, distortion, priors, metric_nodes=metric, options=options)
    used = _used(edges, pulled.report)
    return Placement(
        rigid=pulled.world_from,
        cameras=bend(submaps, used, pulled.world_from, distortion, pulled.rows),
        report=pulled.report,
        distortion=distortion,
        priors=pulled.priors,
    )


def _used(edges: Sequence[SubmapEdge], report: OptimisationReport) -> list[SubmapEdge]:
    return [edge for edge, weight in zip(edges, report.weights, strict=True) if weight > 0]
