"""Sim(3) between two submaps from the frames that they share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry import registration, rigid3
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import Submap, SubmapEdge
from da3stream.scene.pose_graph import EdgeKind

Array = NDArray[np.float64]

INDEPENDENT_SAMPLES_PER_FRAME = 16.0
"""Depth errors of one frame are correlated over about a quarter of its width and height."""
MIN_POINTS_PER_FRAME = 20
"""Fewer usable pixels than this, on average, and the edge is made from poses alone."""
MIN_INLIER_RATIO = 0.1
MAX_POINTS = 20_000
"""More are thinned evenly: neighbours repeat each other (a seventh of them gave the same accuracy)."""
POSES_ONLY_RELATIVE_SIGMA = 0.3
"""Standard deviation claimed for an edge from poses alone: radians, lengths relative to the scene's depth."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _SharedFrames:
    """What the two submaps say of the frames they share; row k of both sides is the same frame."""

    frames: tuple[int, ...]
    poses_a: Array
    """(K, 4, 4) submap a from camera."""
    poses_b: Array
    """(K, 4, 4) submap b from camera."""
    points_a: Array
    """(N, 3) in submap a."""
    points_b: Array
    """(N, 3) in submap b, of the same pixels."""
    depth_a: Array
    """(N,) z-depth of the points in their camera, submap a's unit."""
    depth_b: Array
    weights: Array
    """(N,) > 0, from the confidences of both sides, median 1 a side."""
    row: NDArray[np.intp]
    """(N,) which shared frame a point belongs to."""


def align_submaps(
    a: Submap,
    b: Submap,
    kind: EdgeKind = "overlap",
    *,
    frames: Collection[int] | None = None,
    negligible_confidence: float = 0.0,
) -> SubmapEdge:
    """Measure a_from_b on the same pixels of the shared frames.

    Frames in which one side knows next to nothing (interpolated cameras, a constant depth) are left out,
    unless it knows nothing of all of them.

    The fit starts from the camera poses and the median ratio of the depths, which outliers cannot pull away,
    and is refined by IRLS on the point pairs with residuals relative to depth. With too few usable points, or
    when they disagree, the edge is made from poses alone and carries little information; `evidence["method"]`
    says so.

    Args:
        a: the earlier submap.
        b: the later one.
        kind: what the edge is for.
        frames: use only these of the shared frames; None: all.
        negligible_confidence: pixels of no more confidence are not used.

    Raises:
        ValueError: the submaps share no frame.
    """
    shared = _collect(a, b, frames, negligible_confidence)
    enough = len(shared.points_a) >= MIN_POINTS_PER_FRAME * len(shared.frames)
    ratios = _depth_ratios(shared)
    initial = _from_poses(shared, float(np.exp(np.mean(np.log(ratios)))))
    if enough:
        fit = registration.fit_robust(
            shared.points_b,
            shared.points_a,
            weights=shared.weights,
            residual_unit=shared.depth_a,
            initial=initial,
        )
        if fit.inlier_ratio >= MIN_INLIER_RATIO:
            return _edge_from_points(a, b, kind, shared, fit, ratios)
    return _edge_from_poses(a, b, kind, shared, initial, ratios)


def _collect(a: Submap, b: Submap, only: Collection[int] | None, negligible: float) -> _SharedFrames:
    wanted = set(a.chunk.frames) if only is None else set(a.chunk.frames) & set(only)
    frames = tuple(frame for frame in b.chunk.frames if frame in wanted)
    if not frames:
        raise ValueError(f"submaps {a.chunk.index} and {b.chunk.index} share no frame")
    known = _known(a, a.rows(frames), negligible) & _known(b, b.rows(frames), negligible)
    frames = tuple(frame for frame, is_known in zip(frames, known, strict=True) if is_known) or frames
    rows_a, rows_b = a.rows(frames), b.rows(frames)
    poses_a = rigid3.invert(rigid3.to_4x4(a.cam_from_submap[rows_a]))
    poses_b = rigid3.invert(rigid3.to_4x4(b.cam_from_submap[rows_b]))
    weight_a = _confidence_weights(a, rows_a, negligible)
    weight_b = _confidence_weights(b, rows_b, negligible)
    # Maps that were estimated at different sizes have no pixel in common.
    weights = np.sqrt(weight_a * weight_b) if weight_a.shape == weight_b.shape else np.zeros_like(weight_a)
    pixels = _Pixels.where(weights > 0)
    return _SharedFrames(
        frames=frames,
        poses_a=poses_a,
        poses_b=poses_b,
        points_a=pixels.points(a, rows_a, poses_a),
        points_b=pixels.points(b, rows_b, poses_b),
        depth_a=pixels.depth(a, rows_a),
        depth_b=pixels.depth(b, rows_b),
        weights=weights[pixels.row, pixels.y, pixels.x],
        row=pixels.row,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Pixels:
    """Pixels of the shared frames' depth maps, each (N,)."""

    row: NDArray[np.intp]
    y: NDArray[np.intp]
    x: NDArray[np.intp]

    @classmethod
    def where(cls, usable: NDArray[np.bool_]) -> _Pixels:
        """At most MAX_POINTS of the usable ones, evenly thinned, but not by a step that divides the width."""
        row, y, x = np.nonzero(usable)
        kept = np.linspace(0, len(row), min(len(row), MAX_POINTS), endpoint=False).astype(np.intp)
        return cls(row=row[kept], y=y[kept], x=x[kept])

    def depth(self, submap: Submap, rows: NDArray[np.intp]) -> Array:
        """(N,) z-depth."""
        return submap.depth[rows[self.row], self.y, self.x].astype(np.float64)

    def points(self, submap: Submap, rows: NDArray[np.intp], poses: Array) -> Array:
        """(N, 3) points in the submap's frame."""
        intrinsics, pose = submap.intrinsics[rows][self.row], poses[self.row]
        rays = np.ones((len(self.row), 3))
        rays[:, 0] = (self.x + 0.5 - intrinsics[:, 0, 2]) / intrinsics[:, 0, 0]
        rays[:, 1] = (self.y + 0.5 - intrinsics[:, 1, 2]) / intrinsics[:, 1, 1]
        in_cam = rays * self.depth(submap, rows)[:, None]
        return np.einsum("nij,nj->ni", pose[:, :3, :3], in_cam) + pose[:, :3, 3]


def _known(submap: Submap, rows: NDArray[np.intp], negligible: float) -> NDArray[np.bool_]:
    """(K,) whether a submap knows enough pixels of frames."""
    usable = _usable_confidence(submap, rows, negligible) > 0
    return np.asarray(usable.sum(axis=(1, 2)) >= MIN_POINTS_PER_FRAME)


def _usable_confidence(submap: Submap, rows: NDArray[np.intp], negligible: float) -> Array:
    """(K, h, w) confidence of frames; 0 where it is negligible, in the sky and without a depth."""
    confidence = submap.confidence[rows].astype(np.float64)
    if submap.sky is not None:
        confidence[submap.sky[rows]] = 0.0
    confidence[~(np.isfinite(submap.depth[rows]) & (submap.depth[rows] > 0))] = 0.0
    return np.where(confidence > negligible, confidence, 0.0)


def _confidence_weights(submap: Submap, rows: NDArray[np.intp], negligible: float) -> Array:
    """Usable confidence in units of its median over the shared frames."""
    confidence = _usable_confidence(submap, rows, negligible)
    positive = confidence[confidence > 0]
    return confidence / np.median(positive) if len(positive) else confidence


def _depth_ratios(shared: _SharedFrames) -> Array:
    """(K,) median of depth in a over depth in b per shared frame; the overall one without points."""
    log_ratio = np.log(shared.depth_a / shared.depth_b)
    overall = float(np.median(log_ratio)) if len(log_ratio) else _log_baseline_ratio(shared)
    per_frame = [log_ratio[shared.row == k] for k in range(len(shared.frames))]
    return np.exp(
        [np.median(values) if len(values) >= MIN_POINTS_PER_FRAME else overall for values in per_frame]
    )


def _log_baseline_ratio(shared: _SharedFrames) -> float:
    """Log ratio of how far the camera moved in the two submaps; 0 where it stood still."""
    spread_a, spread_b = _spread(shared.poses_a), _spread(shared.poses_b)
    return float(np.log(spread_a / spread_b)) if min(spread_a, spread_b) > 0 else 0.0


def _spread(poses: Array) -> float:
    """RMS distance of the camera centres from their mean, in any frame the same; 0 if only rounding."""
    centres = poses[:, :3, 3]
    spread = float(np.sqrt(np.var(centres, axis=0).sum()))
    return spread if spread > 1e-9 * np.abs(centres).max() else 0.0


def _from_poses(shared: _SharedFrames, scale: float) -> Sim3:
    """a_from_b that maps the poses of b best onto those of a, at a given scale."""
    turns = shared.poses_a[:, :3, :3] @ np.swapaxes(shared.poses_b[:, :3, :3], -1, -2)
    rotation = rigid3.nearest_rotation(turns.sum(axis=0))
    offsets = shared.poses_a[:, :3, 3] - scale * shared.poses_b[:, :3, 3] @ rotation.T
    return Sim3(scale=scale, rotation=rotation, translation=np.median(offsets, axis=0))


def _edge_from_points(
    a: Submap,
    b: Submap,
    kind: EdgeKind,
    shared: _SharedFrames,
    fit: registration.RobustFit,
    ratios: Array,
) -> SubmapEdge:
    information = registration.fit_information(
        shared.points_b,
        float(fit.a_from_b.scale),
        fit.weights,
        fit.sigma,
        INDEPENDENT_SAMPLES_PER_FRAME * len(shared.frames),
    )
    evidence = {
        "method": "points",
        "points": len(shared.points_a),
        "relative_residual": fit.sigma,
        "inlier_ratio": fit.inlier_ratio,
        "iterations": fit.iterations,
    }
    return _edge(a, b, kind, shared, fit.a_from_b, information, ratios, evidence)


def _edge_from_poses(
    a: Submap, b: Submap, kind: EdgeKind, shared: _SharedFrames, fit: Sim3, ratios: Array
) -> SubmapEdge:
    unit = _typical_depth(b.depth[b.rows(shared.frames)]) or _spread(shared.poses_b) or 1.0
    sigma = np.array([1.0, 1.0, 1.0, unit, unit, unit, 1.0]) * POSES_ONLY_RELATIVE_SIGMA
    evidence = {"method": "poses", "points": len(shared.points_a)}
    return _edge(a, b, kind, shared, fit, np.diag(1.0 / np.square(sigma)), ratios, evidence)


def _typical_depth(depth: NDArray[np.float32]) -> float:
    """Median of the usable depths; 0 if there is none."""
    usable = depth[np.isfinite(depth) & (depth > 0)]
    return float(np.median(usable)) if len(usable) else 0.0


def _edge(
    a: Submap,
    b: Submap,
    kind: EdgeKind,
    shared: _SharedFrames,
    fit: Sim3,
    information: Array,
    ratios: Array,
    evidence: dict[str, object],
) -> SubmapEdge:
    return SubmapEdge(
        a=a.chunk.index,
        b=b.chunk.index,
        a_from_b=fit,
        information=information,
        kind=kind,
        evidence={**evidence, "frames": list(shared.frames), "depth_ratios": [float(r) for r in ratios]},
    )
