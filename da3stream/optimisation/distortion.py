"""How much submaps bend, estimated from how the cameras of shared frames disagree.

Inside a submap every camera has an error of its own (jitter) and one that changes smoothly along the submap
(drift: over n rows it changes in proportion to n). Two submaps that share frames differ by both. Jitter shows
between successive shared frames, drift between the first and the second half of them. Medians over the run
keep garbage frames out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation.edges import stack, take
from da3stream.optimisation.shared_frames import CameraTable, SharedFrames
from da3stream.scene import Chunk, PoseUncertainty, SubmapCameras, SubmapEdge

Array = NDArray[np.float64]

TYPICAL_JITTER = np.array([4e-4, 6e-4, 8e-3])
"""Rotation in radians, translation relative to depth, log-scale: where a run is too short to tell."""
TYPICAL_RATIO = np.array([0.5, 0.25, 0.05])
"""Drift from one row to the next over jitter."""
LARGEST_DEPARTURE = 3.0
"""An estimated ratio is used within this factor of the typical one: a factor of 2 costs 3 % at most."""
MOST_NOISE = 30.0
"""No chunk is taken to be noisier than fine ones by more than this factor; with it, it hardly counts."""
_LEAST_EDGES = 4
"""With fewer between fine chunks, nothing is estimated."""
_LEAST_DIFFERENCES = 20
"""With fewer successive shared frames, a class of chunks counts as noisy as the fine one."""
_LEAST_HALF = 3
"""Shared frames in half an edge, for the drift."""
_NORMAL = 1.4826
"""Standard deviation over median absolute value of a normal distribution."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Distortion:
    """Errors inside submaps.

    Channels: rotation in radians, translation relative to typical depth, log-scale.
    """

    noise: Array
    """(N,) errors of a submap over those of a fine one, 1 .. 30."""
    jitter: Array
    """(3,) standard deviation of one camera of a fine submap, each axis."""
    drift: Array
    """(3,) standard deviation of the smooth change from one camera to the next, each axis."""
    estimated: bool
    """False: too few edges, typical values."""

    @property
    def positive_jitter(self) -> Array:
        """(3,) jitter, and of submaps that do not err at all a hundredth of the typical one."""
        return np.maximum(self.jitter, TYPICAL_JITTER / 100)

    @property
    def ratio(self) -> Array:
        """(3,) drift over jitter, near the typical one: what bends how much is decided by it."""
        ratio = np.divide(self.drift, self.jitter, out=TYPICAL_RATIO.copy(), where=self.jitter > 0)
        return np.clip(ratio, TYPICAL_RATIO / LARGEST_DEPARTURE, TYPICAL_RATIO * LARGEST_DEPARTURE)


def estimate(submaps: Sequence[SubmapCameras], edges: Sequence[SubmapEdge]) -> Distortion:
    """From the frames that neighbouring submaps share.

    Args:
        submaps: all submaps; the position is the node.
        edges: with "frames" and "depth_ratios" in their evidence.
    """
    kinds = [_class_of(submap.chunk) for submap in submaps]
    # Keyframes of the memory are no successive frames.
    shared = SharedFrames.of(submaps, [edge for edge in edges if edge.kind != "memory"])
    noise = np.maximum(_noise(kinds, shared), _misfit(kinds, edges))
    fine = [e for e in edges if e.kind == "overlap" and kinds[e.a] == kinds[e.b] == _FINE]
    halves, successive = _differences(submaps, fine)
    if len(halves) < _LEAST_EDGES:
        drift = TYPICAL_RATIO * TYPICAL_JITTER
        return Distortion(noise=noise, jitter=TYPICAL_JITTER, drift=drift, estimated=False)
    # Jitter: two submaps, two cameras each.
    jitter, drift = np.sqrt(_variance(successive) / 4), np.sqrt(_variance(halves))
    return Distortion(noise=noise, jitter=jitter, drift=drift, estimated=True)


_Class = tuple[int, bool]
_FINE: _Class = (1, True)


def _class_of(chunk: Chunk) -> _Class:
    """Chunks of one class err alike: the same spacing of frames, and all with or all without new frames."""
    return chunk.scale, bool(chunk.new)


def _noise(kinds: Sequence[_Class], shared: SharedFrames) -> Array:
    """(N,) noise factors, from log depth ratios: an edge of a fine and another chunk has s^2 (1 + f^2)."""
    classes = sorted(set(kinds))
    number = np.array([classes.index(kind) for kind in kinds], dtype=np.intp)
    fine = classes.index(_FINE) if _FINE in classes else -1
    same = shared.edge[1:] == shared.edge[:-1]
    difference = np.diff(shared.log_ratio)[same]
    a, b = number[shared.a[1:][same]], number[shared.b[1:][same]]
    factors = np.ones(len(classes))
    reference = difference[(a == fine) & (b == fine)]
    if len(reference) < _LEAST_DIFFERENCES or not np.median(np.abs(reference)) > 0:
        return factors[number]
    for other in range(len(classes)):
        mixed = difference[((a == fine) & (b == other)) | ((a == other) & (b == fine))]
        if other != fine and len(mixed) >= _LEAST_DIFFERENCES:
            ratio = np.square(np.median(np.abs(mixed)) / np.median(np.abs(reference)))
            factors[other] = np.clip(np.sqrt(max(2 * ratio - 1, 1.0)), 1.0, MOST_NOISE)
    return factors[number]


def _misfit(kinds: Sequence[_Class], edges: Sequence[SubmapEdge]) -> Array:
    """(N,) noise factors of chunks that are not fine, one by one, from how well they fit fine ones.

    The squared residual of an edge is s^2 (1 + f^2) as well. 1 where no edge tells.
    """
    squared = {
        (edge.a, edge.b): edge.evidence["relative_residual"] ** 2
        for edge in edges
        if "relative_residual" in edge.evidence
    }
    fine = [value for (a, b), value in squared.items() if kinds[a] == kinds[b] == _FINE]
    reference = float(np.median(fine)) if fine else 0.0
    factors = np.ones(len(kinds))
    found: dict[int, list[float]] = {}
    for (a, b), value in squared.items():
        if (kinds[a] == _FINE) != (kinds[b] == _FINE):
            found.setdefault(a if kinds[b] == _FINE else b, []).append(value)
    for chunk, values in found.items():
        ratio = float(np.median(values)) / reference if reference > 0 else 1.0
        factors[chunk] = np.clip(np.sqrt(max(2 * ratio - 1, 1.0)), 1.0, MOST_NOISE)
    return factors


def _differences(submaps: Sequence[SubmapCameras], edges: Sequence[SubmapEdge]) -> tuple[Array, Array]:
    """(D, 7) changes of the disagreement: halves of an edge, per row and submap; successive shared frames."""
    if not edges:
        return np.zeros((0, 7)), np.zeros((0, 7))
    shared = SharedFrames.of(submaps, edges)
    off = _disagreement(submaps, edges, shared)
    halves = []
    for rows in np.split(np.arange(len(shared)), np.flatnonzero(np.diff(shared.edge)) + 1):
        half = len(rows) // 2
        if half < _LEAST_HALF:
            continue
        change = np.median(off[rows[-half:]], axis=0) - np.median(off[rows[:half]], axis=0)
        rows_apart = np.median(shared.row_b[rows[-half:]]) - np.median(shared.row_b[rows[:half]])
        halves.append(change / (np.sqrt(2) * rows_apart))
    return np.array(halves).reshape(-1, 7), np.diff(off, axis=0)[shared.edge[1:] == shared.edge[:-1]]


def _disagreement(
    submaps: Sequence[SubmapCameras], edges: Sequence[SubmapEdge], shared: SharedFrames
) -> Array:
    """(M, 7) camera in a against camera in b moved to a: rotation, translation over depth, log-scale."""
    table = CameraTable.of(submaps)
    in_a = table.submap_from_cam[table.start[shared.a] + shared.row_a]
    in_b = table.submap_from_cam[table.start[shared.b] + shared.row_b]
    a_from_b = take(stack([edge.a_from_b for edge in edges]), shared.edge)
    moved = a_from_b.move_pose(in_b)
    turn = Rotation.from_matrix(in_a[:, :3, :3] @ np.swapaxes(moved[:, :3, :3], 1, 2)).as_rotvec()
    depth = np.array([submap.typical_depth for submap in submaps])[shared.a]
    shift = (in_a[:, :3, 3] - moved[:, :3, 3]) / depth[:, None]
    return np.concatenate([turn, shift, (shared.log_ratio - np.log(a_from_b.scale))[:, None]], axis=1)


def _variance(differences: Array) -> Array:
    """(3,) robust variances of (D, 7) differences by channel."""
    channels = (differences[:, :3], differences[:, 3:6], differences[:, 6:])
    return np.array([np.square(_NORMAL * np.median(np.abs(channel))) for channel in channels])


def honest_edges(
    submaps: Sequence[SubmapCameras], edges: Sequence[SubmapEdge], distortion: Distortion
) -> tuple[SubmapEdge, ...]:
    """The edges with what both submaps bend added to their covariances.

    A submap as a whole differs from itself at the shared frames by the drift over a quarter of its length.
    That turns, shifts and scales around the middle of the shared cameras. Paths are dead reckoning: drift of
    rotation and scale shifts the cameras, too, the further the longer the path.
    """
    table, shared = CameraTable.of(submaps), SharedFrames.of(submaps, edges)
    centres = table.submap_from_cam[table.start[shared.b] + shared.row_b, :3, 3]
    count = np.bincount(shared.edge, minlength=len(edges))
    middle = np.stack([np.bincount(shared.edge, c, len(edges)) for c in centres.T], axis=1) / count[:, None]
    a, b = np.array([[edge.a, edge.b] for edge in edges], dtype=np.intp).reshape(-1, 2).T
    variance = _drift_variances(submaps, table, distortion)
    information = _softened(
        np.array([edge.information for edge in edges]).reshape(-1, 7, 7),
        variance[a] + variance[b],
        middle,
        np.array([submap.typical_depth for submap in submaps])[b],
    )
    return tuple(replace(edge, information=own) for edge, own in zip(edges, information, strict=True))


def pose_uncertainties(
    submaps: Sequence[SubmapCameras], distortion: Distortion, variance_factor: float
) -> list[PoseUncertainty]:
    """How far cameras of every submap are off: by their jitter and by the drift over a quarter of the submap.

    Args:
        submaps: all submaps.
        distortion: how much they bend.
        variance_factor: of the edges (`OptimisationReport`): where they fit worse than the distortion
            explains, everything is that much less certain. Not finite, or below 1: nothing is known of that.
    """
    jitter = np.square(distortion.noise[:, None] * distortion.jitter)
    variance = jitter + _drift_variances(submaps, CameraTable.of(submaps), distortion)
    worse = max(1.0, variance_factor) if np.isfinite(variance_factor) else 1.0
    return [
        PoseUncertainty(turn_rad=turn, shift_over_depth=shift, log_scale=scale)
        for turn, shift, scale in np.sqrt(worse * variance).tolist()
    ]


def _drift_variances(submaps: Sequence[SubmapCameras], table: CameraTable, distortion: Distortion) -> Array:
    """(N, 3) over a quarter of every submap, by channel."""
    rows = table.lengths / 4
    per_row = np.square(distortion.noise[:, None] * distortion.drift)
    variance = per_row * np.square(rows)[:, None]
    step = np.linalg.norm(np.diff(table.submap_from_cam[:, :3, 3], axis=0), axis=1)
    step[table.start[1:-1] - 1] = 0.0
    path = np.add.reduceat(np.append(step, 0.0), table.start[:-1])
    depth = np.array([submap.typical_depth for submap in submaps])
    # Over n rows of length l, a direction that turns by w from row to row misses by l w n^2 / 2.
    lever = path / np.maximum(table.lengths - 1, 1) / depth
    variance[:, 1] += np.square(lever) * (per_row[:, 0] + per_row[:, 2]) * rows**4 / 4
    return variance


def _softened(information: Array, variance: Array, pivot: Array, depth: Array) -> Array:
    """(E, 7, 7) information with a perturbation around a pivot added to its covariance.

    (C + D)^-1 = (1 + L D)^-1 L with L = C^-1 needs no inverse of L, which may be blind in some directions.

    Args:
        information: (E, 7, 7) L, of a right perturbation in submap b.
        variance: (E, 3) diagonal of D, by channel.
        pivot: (E, 3) in submap b.
        depth: (E,) what the translation is relative to, in submap b's unit.
    """
    unit = np.ones((len(depth), 7))
    unit[:, 3:6] = depth[:, None]
    there = _shifts(pivot).adjoint() * unit[:, None, :]
    local = np.swapaxes(there, 1, 2) @ information @ there
    added = np.repeat(variance, [3, 3, 1], axis=1)
    softened = np.linalg.solve(np.eye(7) + local * added[:, None, :], local)
    back = _shifts(-pivot).adjoint() / unit[:, :, None]
    result = np.swapaxes(back, 1, 2) @ softened @ back
    return np.asarray((result + np.swapaxes(result, 1, 2)) / 2)


def _shifts(translation: Array) -> Sim3:
    """(E,) translations alone."""
    identity = Sim3.identity((len(translation),))
    return replace(identity, translation=translation)
