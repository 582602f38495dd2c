"""Is a loop real? What the submap of a loop, its edges and its depth maps say about it.

A loop chunk holds frames of two places. Its submap claims where they lie relative to each other, and nobody
else knows: the edges to the earlier submaps tie each place to its own side and fit as well if the claim is
wrong. So four things are asked, all relative, since the unit of a submap is arbitrary:

1. Do the two places see the same surfaces at the same depth? (`overlap`.) This alone notices two places that
   look alike. It includes the scale: if one place were reconstructed larger than the other, their surfaces
   would lie apart.
2. Does each place fit a submap that holds its frames about as well as consecutive chunks of this run fit?
3. Do the submaps of one place agree on where it lies? Two edges to the loop submap and the known edge between
   them close a triangle.
4. Is the change of scale plausible? The chain drifts, so only nonsense is refused.

The constants were chosen on simulated captures (a street, a room), see `benchmarks/loop_verification.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.geometry.rigid3 import invert, to_4x4
from da3stream.loop_closure.overlap import Overlap, measure_overlap, weighted_median
from da3stream.scene import Submap, SubmapEdge
from da3stream.scene.pose_graph import EdgeKind

TOLERANCE = 3.0
"""Depths that differ by less than this many relative residuals of the edges are equal."""
_TOLERANCE_LIMITS = (0.02, 0.15)
"""A perfect fit must not make rounding count, nor a bad one make everything agree."""
MIN_CONFIRMED = 0.15
"""Share of a frame that the other place must confirm, for the place that it confirms more of: one of them may
be seen from much nearer."""
MIN_AGREEMENT = 0.75
"""Confirmed over confirmed and contradicted pixels, mean of both directions. What has changed between two
visits contradicts in one direction only (and is hidden in the other), a wrong place in both."""
_MIN_INLIER_SHARE: Mapping[EdgeKind, float] = {"overlap": 0.5, "loop": 0.5, "memory": 0.5, "coarse": 0.3}
"""Least inlier ratio, as a share of that of consecutive chunks. Coarse chunks are noisier, and their edges
carry less information."""
MAX_LOG_SCALE_GAP = math.log(1.15)
MAX_ROTATION_GAP_DEG = 5.0
MAX_TRANSLATION_GAP = 0.2
"""Of the typical depth."""
MAX_SCALE_JUMP = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopSides:
    """Which frames of a loop chunk belong to which place."""

    earlier: tuple[int, ...]
    """Frame indices of the place as it was first seen."""
    later: tuple[int, ...]
    """Frame indices of the return to it."""

    def __post_init__(self) -> None:
        if not self.earlier or not self.later or set(self.earlier) & set(self.later):
            raise ValueError(
                f"the sides of a loop are two groups of frames, got {self.earlier} and {self.later}"
            )

    def named(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Both, with their names."""
        return (("earlier", self.earlier), ("later", self.later))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LoopVerdict:
    """Whether a loop may join its two places, and what that rests on."""

    reason: str | None
    """What speaks against it, in words; None if nothing does."""
    evidence: Mapping[str, Any]
    """Plain JSON values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Triangle:
    """What is left of a loop edge, the known edge and the other loop edge put one after the other."""

    a: int
    b: int
    log_scale: float
    rotation_deg: float
    translation: float
    """Median shift of the side's cameras over their typical depth."""

    @property
    def is_closed(self) -> bool:
        return (
            abs(self.log_scale) <= MAX_LOG_SCALE_GAP
            and self.rotation_deg <= MAX_ROTATION_GAP_DEG
            and self.translation <= MAX_TRANSLATION_GAP
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Side:
    """One place and what ties it to the earlier submaps."""

    name: str
    edges: tuple[SubmapEdge, ...]
    """Edges whose shared frames all show this place."""
    problem: str | None
    """Why none of them is good enough."""
    triangles: tuple[_Triangle, ...]

    @property
    def good(self) -> SubmapEdge | None:
        """The edge of most inliers."""
        return max(self.edges, key=_inlier_ratio) if self.problem is None else None


def verify_loop(
    submap: Submap,
    sides: LoopSides,
    edges: Sequence[SubmapEdge],
    between: Sequence[SubmapEdge],
    *,
    typical_inlier_ratio: float,
    world_scales: Mapping[int, float],
) -> LoopVerdict:
    """Judge a loop by what its submap sees and how it fits the earlier ones.

    An edge whose shared frames show both places (to a coarse submap that spans them, say) says nothing about
    either of them and is left out.

    Args:
        submap: reconstruction of the loop chunk.
        sides: its frames, by place.
        edges: k_from_loop of earlier submaps k, with `alignment`'s evidence.
        between: known edges among those submaps; others are ignored.
        typical_inlier_ratio: median inlier ratio of the edges of consecutive chunks of this run.
        world_scales: for each earlier submap of `edges`, the scale of its world_from_submap as placed without
            this loop.
    """
    judged = tuple(
        _judge_side(submap, name, frames, edges, between, typical_inlier_ratio)
        for name, frames in sides.named()
    )
    tolerance = _depth_tolerance(edges)
    overlaps = (
        measure_overlap(submap, sides.earlier, sides.later, tolerance=tolerance),
        measure_overlap(submap, sides.later, sides.earlier, tolerance=tolerance),
    )
    scale_jump = _scale_jump(judged, world_scales)
    reasons = [
        *(side.problem for side in judged),
        _problem_of_overlap(overlaps),
        *(_problem_of_triangles(side) for side in judged),
        _problem_of_scale(scale_jump),
    ]
    evidence = {
        "depth_tolerance": tolerance,
        "confirmed": _confirmed(overlaps),
        "agreement": _agreement(overlaps),
        "depth_ratio": float(np.exp((overlaps[0].log_depth_ratio - overlaps[1].log_depth_ratio) / 2)),
        "scale_jump": scale_jump,
        "typical_inlier_ratio": float(typical_inlier_ratio),
        **{side.name: _side_evidence(side, overlap) for side, overlap in zip(judged, overlaps, strict=True)},
    }
    return LoopVerdict(reason="; ".join(filter(None, reasons)) or None, evidence=evidence)


def problem_of_edge(edge: SubmapEdge, typical_inlier_ratio: float) -> str | None:
    """Why an edge should not be trusted, in words, or None.

    Args:
        edge: with `alignment`'s evidence.
        typical_inlier_ratio: median inlier ratio of the edges of consecutive chunks of this run.
    """
    if edge.evidence["method"] != "points":
        return f"its {edge.evidence['points']} common points are too few or do not fit"
    least = _MIN_INLIER_SHARE[edge.kind] * typical_inlier_ratio
    ratio = _inlier_ratio(edge)
    if ratio < least:
        return f"only {ratio:.0%} of its common points fit, at least {least:.0%} are expected in this run"
    return None


def _judge_side(
    submap: Submap,
    name: str,
    frames: tuple[int, ...],
    edges: Sequence[SubmapEdge],
    between: Sequence[SubmapEdge],
    typical_inlier_ratio: float,
) -> _Side:
    own = tuple(edge for edge in edges if set(edge.evidence["frames"]) <= set(frames))
    problems = [problem_of_edge(edge, typical_inlier_ratio) for edge in own]
    good = tuple(edge for edge, problem in zip(own, problems, strict=True) if problem is None)
    problem = None
    if not own:
        problem = f"no submap shares enough frames with the {name} place"
    elif not good:
        best = problems[own.index(max(own, key=_inlier_ratio))]
        problem = f"the {name} place does not fit the submaps of its frames: {best}"
    usable = [edge for edge in between if problem_of_edge(edge, typical_inlier_ratio) is None]
    return _Side(name=name, edges=own, problem=problem, triangles=_triangles(submap, frames, good, usable))


def _inlier_ratio(edge: SubmapEdge) -> float:
    """Share of the points that fit; 0 for an edge from poses alone."""
    return float(edge.evidence.get("inlier_ratio", 0.0))


def _triangles(
    submap: Submap, frames: tuple[int, ...], edges: Sequence[SubmapEdge], between: Sequence[SubmapEdge]
) -> tuple[_Triangle, ...]:
    k_from_loop = {edge.a: edge.a_from_b for edge in edges}
    rows = submap.rows(frames)
    centres = invert(to_4x4(submap.cam_from_submap[rows]))[:, :3, 3]
    depth = _typical_depth(submap, rows)
    triangles = []
    for edge in between:
        if edge.a in k_from_loop and edge.b in k_from_loop:
            gap = k_from_loop[edge.a].inverse() @ edge.a_from_b @ k_from_loop[edge.b]
            shift = np.linalg.norm(gap.apply(centres) - centres, axis=1)
            triangles.append(
                _Triangle(
                    a=edge.a,
                    b=edge.b,
                    log_scale=float(np.log(gap.scale)),
                    rotation_deg=float(np.degrees(Rotation.from_matrix(gap.rotation).magnitude())),
                    translation=float(np.median(shift) / depth),
                )
            )
    return tuple(triangles)


def _typical_depth(submap: Submap, rows: NDArray[np.intp]) -> float:
    """Median depth by confidence, which is positive wherever an edge from points rests on these frames."""
    confidence = submap.confidence[rows]
    known = confidence > 0
    return weighted_median(submap.depth[rows][known].astype(np.float64), confidence[known].astype(np.float64))


def _depth_tolerance(edges: Sequence[SubmapEdge]) -> float:
    """Relative difference of depth that noise explains, from how well the edges fit."""
    lowest, highest = _TOLERANCE_LIMITS
    residuals = [e.evidence["relative_residual"] for e in edges if e.evidence["method"] == "points"]
    return float(np.clip(TOLERANCE * np.median(residuals), lowest, highest)) if residuals else lowest


def _confirmed(overlaps: tuple[Overlap, Overlap]) -> float:
    return max(overlap.confirmed for overlap in overlaps)


def _agreement(overlaps: tuple[Overlap, Overlap]) -> float:
    return sum(overlap.agreement for overlap in overlaps) / 2


def _problem_of_overlap(overlaps: tuple[Overlap, Overlap]) -> str | None:
    coverage = max(overlap.coverage for overlap in overlaps)
    confirmed, agreement = _confirmed(overlaps), _agreement(overlaps)
    if coverage < MIN_CONFIRMED:
        return (
            f"the two places hardly look at the same space ({coverage:.0%} of an image, at least "
            f"{MIN_CONFIRMED:.0%} is needed)"
        )
    if confirmed > 0 and agreement < MIN_AGREEMENT:
        return (
            f"the two places contradict each other: of what both should see, {agreement:.0%} is at the same "
            f"depth, at least {MIN_AGREEMENT:.0%} is needed; they may only look alike"
        )
    if confirmed < MIN_CONFIRMED:
        return (
            f"the two places hardly see the same surfaces ({confirmed:.0%} of an image, at least "
            f"{MIN_CONFIRMED:.0%} is needed)"
        )
    return None


def _problem_of_triangles(side: _Side) -> str | None:
    opened = [triangle for triangle in side.triangles if not triangle.is_closed]
    if 2 * len(opened) <= len(side.triangles):
        return None
    worst = max(opened, key=lambda triangle: triangle.translation)
    return (
        f"submaps {worst.a} and {worst.b} disagree on where the {side.name} place lies (by "
        f"{np.expm1(abs(worst.log_scale)):.0%} in scale, {worst.rotation_deg:.1f} degrees, "
        f"{worst.translation:.0%} of the depth)"
    )


def _scale_jump(sides: tuple[_Side, ...], world_scales: Mapping[int, float]) -> float | None:
    """World units per unit of the loop submap as the later place says, over what the earlier one says."""
    said = [
        world_scales[side.good.a] * float(side.good.a_from_b.scale) for side in sides if side.good is not None
    ]
    return said[1] / said[0] if len(said) == 2 else None


def _problem_of_scale(jump: float | None) -> str | None:
    if jump is None or 1 / MAX_SCALE_JUMP <= jump <= MAX_SCALE_JUMP:
        return None
    return (
        f"the scale would have to change by a factor of {max(jump, 1 / jump):.0f}, at most "
        f"{MAX_SCALE_JUMP:.0f} is plausible"
    )


def _side_evidence(side: _Side, overlap: Overlap) -> dict[str, Any]:
    return {
        "coverage": overlap.coverage,
        "confirmed": overlap.confirmed,
        "agreement": overlap.agreement,
        "edges": [
            {
                "submap": edge.a,
                "method": edge.evidence["method"],
                "inlier_ratio": _inlier_ratio(edge),
                "scale": float(edge.a_from_b.scale),
            }
            for edge in side.edges
        ],
        "triangles": [
            {
                "submaps": [triangle.a, triangle.b],
                "log_scale": triangle.log_scale,
                "rotation_deg": triangle.rotation_deg,
                "translation": triangle.translation,
                "closed": triangle.is_closed,
            }
            for triangle in side.triangles
        ],
    }
