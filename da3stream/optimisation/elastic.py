"""Lets submaps bend: what overlapping submaps know of each other's inner errors corrects both.

A rigid Sim(3) for each submap leaves the drift inside it. Here every submap gets knots along its rows, with
corrections that are linear between knots, and every shared frame is a measurement. (Between recalled
keyframes, and between them and the window, nothing is linear, and the link between the knots is soft.) The
stages are decoupled: log-scales come from depth ratios alone, rotations from camera orientations alone,
positions from the path of every submap rebuilt under both. (Scale from motion along the path, as a joint
Sim(3) solution would have it, is worse: over a few rows the motion says less of the scale than the depth
does.) The order is that of Martinec and Pajdla, "Robust Rotation and Translation Estimation in Multiview
Reconstruction", CVPR 2007; the idea of fragments that bend is that of Zhou, Miller and Koltun, "Elastic
Fragments for Dense Scene Reconstruction", ICCV 2013.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial.transform import Rotation

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation.distortion import Distortion
from da3stream.optimisation.edges import stack, take
from da3stream.optimisation.least_squares import least_squares
from da3stream.optimisation.pose_priors import PriorRows
from da3stream.optimisation.shared_frames import CameraTable, Indices, SharedFrames
from da3stream.scene import Chunk, PlacedCameras, SubmapCameras, SubmapEdge

Array = NDArray[np.float64]

ROWS_PER_KNOT = 5
JUMP_ROWS = 5.0
"""A recalled keyframe and the row after it differ as if so many rows lay between them: they are not near in
time. The simulated errors are smooth along the rows all the same: 1, 5, 15 rows give 1, 1.01, 1.17 times the
error with keyframe memory. The sides of a loop stay linked: there it was 1, 1.03, 1.29 times."""
ROUNDS = 3
"""Of weighting and solving; the rotation is linearised anew in each."""
OUTLIER_MEDIANS = 5.0
"""A residual of so many medians of its class has half the weight of a small one (Cauchy)."""
POSES_ONLY_VARIANCE = 100.0
"""How much less a shared frame counts where the depths of both submaps disagreed."""
HELD = 3.0
"""With priors, a row is held at the rigid placement to so many times the noise of a camera."""
_BLOCK = 10_000
"""Shared frames whose rotations are compared at a time, for bounded memory."""
_SUBMAPS = 64
"""Whose paths are rebuilt at a time."""
_ROUNDING = 1e-9
"""Radians, relative lengths and log-scales below this are 0."""


def bend(
    submaps: Sequence[SubmapCameras],
    edges: Sequence[SubmapEdge],
    world_from: Sequence[Sim3],
    distortion: Distortion,
    priors: PriorRows | None = None,
) -> list[PlacedCameras]:
    """The cameras of all submaps in the world.

    A submap without edges stays as it is placed. With priors submaps bend to them, too, and stay near the
    rigid placement, which is by priors: edges alone would let the drift come back.

    Args:
        submaps: (N) the position is the node.
        edges: those in use; with "frames" and "depth_ratios" in their evidence.
        world_from: (N) rigid placement; without priors the first camera of submap 0 stays exactly where it
            puts it.
        distortion: how much submaps bend.
        priors: poses of some cameras.
    """
    problem = _Problem(submaps, edges, stack(list(world_from)), distortion, priors)
    log_scale = problem.log_scales()
    turn = problem.rotations()
    world_from_cam = problem.positions(log_scale, turn)
    return problem.placed(submaps, log_scale, world_from_cam)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Knots:
    """Knots evenly along the stretches of every submap: its window, and every recalled keyframe by itself."""

    submap: Indices
    """(K,) the submap that a knot lies in, increasing."""
    rows_before: Array
    """(K,) rows from the knot before; `JUMP_ROWS` from stretch to stretch, without meaning for the first."""
    at_rows: csr_array
    """(R, K) from values at the knots to values at all rows of all submaps."""

    @classmethod
    def along(cls, chunks: Sequence[Chunk]) -> _Knots:
        """One knot for a stretch of one row, at least two for others."""
        submap = np.repeat(np.arange(len(chunks)), [len(chunk.frames) for chunk in chunks])
        begin = np.flatnonzero(np.concatenate([_begins_stretch(chunk) for chunk in chunks]))
        length = np.diff(begin, append=len(submap))
        count = -(-(length - 1) // ROWS_PER_KNOT) + 1
        apart = (length - 1) / np.maximum(count - 1, 1)
        first = np.cumsum(count) - count
        rows_before = np.repeat(apart, count)
        rows_before[first] = JUMP_ROWS
        return cls(
            submap=np.repeat(submap[begin], count),
            rows_before=rows_before,
            at_rows=_interpolation(length, count, apart, first),
        )

    def links(self) -> tuple[csr_array, Indices]:
        """(L, K) differences of successive knots of a submap, and the (L,) later ones of each two."""
        later = np.flatnonzero(np.diff(self.submap, prepend=-1) == 0)
        each, ones, shape = np.arange(len(later)), np.ones(len(later)), (len(later), len(self.submap))
        difference = csr_array((ones, (each, later)), shape=shape)
        return csr_array(difference - csr_array((ones, (each, later - 1)), shape=shape)), later

    def first(self, submap: Indices) -> csr_array:
        """(P, K) picks the first knot of these submaps."""
        knots, shape = np.searchsorted(self.submap, submap), (len(submap), len(self.submap))
        return csr_array((np.ones(len(submap)), (np.arange(len(submap)), knots)), shape=shape)


def _begins_stretch(chunk: Chunk) -> NDArray[np.bool_]:
    """(N,) whether a row is a recalled keyframe or the first of the window."""
    return np.asarray(np.arange(len(chunk.frames)) <= len(chunk.recalled))


def _interpolation(length: Indices, count: Indices, apart: Array, first: Indices) -> csr_array:
    """(R, K) matrix for stretches (S,) of `length` rows, with `count` knots `apart` rows from the `first`."""
    stretch = np.repeat(np.arange(len(length)), length)
    each = np.arange(len(stretch))
    row = each - (np.cumsum(length) - length)[stretch]
    place = row / np.maximum(apart[stretch], 1e-300)
    left = np.minimum(place.astype(np.intp), np.maximum(count[stretch] - 2, 0))
    right = np.minimum(left + 1, count[stretch] - 1)
    share = place - left
    rows = np.concatenate([each, each])
    columns = np.concatenate([first[stretch] + left, first[stretch] + right])
    values = np.concatenate([1 - share, share])
    return csr_array((values, (rows, columns)), shape=(len(stretch), int(count.sum())))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Held:
    """What is known of the values at rows of all submaps, beside their differences."""

    target: Array
    """(R, D)"""
    certainty: Array
    """(R,) inverse variances, in units of the noise of a fine submap."""

    def pulled(self, rows: Indices, target: Array, certainty: Array) -> _Held:
        """With more knowledge (M, D) of some rows (M,), each of them once."""
        both, together = self.certainty.copy(), self.target.copy()
        both[rows] += certainty
        share = (certainty / both[rows])[:, None]
        together[rows] = (1 - share) * together[rows] + share * target
        return _Held(target=together, certainty=both)


class _Problem:
    """The three linear problems: stiff links between the knots of a submap, shared frames between submaps."""

    def __init__(
        self,
        submaps: Sequence[SubmapCameras],
        edges: Sequence[SubmapEdge],
        world_from: Sim3,
        distortion: Distortion,
        priors: PriorRows | None,
    ) -> None:
        self._world_from, self._distortion, self._priors = world_from, distortion, priors
        self._cameras = CameraTable.of(submaps)
        self._shared = SharedFrames.of(submaps, edges)
        self._depth = np.array([submap.typical_depth for submap in submaps]) * world_from.scale
        self._knots = _Knots.along([submap.chunk for submap in submaps])
        self._at_rows = self._knots.at_rows
        self._row_a = self._cameras.start[self._shared.a] + self._shared.row_a
        self._row_b = self._cameras.start[self._shared.b] + self._shared.row_b
        self._difference = csr_array(self._at_rows[self._row_b] - self._at_rows[self._row_a])
        self._links, self._linked = self._knots.links()
        self._pinned = _first_of_components(len(submaps), edges)
        self._pins = self._knots.first(self._pinned)
        by_poses = np.array([edge.evidence.get("method") == "poses" for edge in edges], dtype=np.bool_)
        self._doubt = np.where(by_poses[self._shared.edge], POSES_ONLY_VARIANCE, 1.0)
        noise = np.stack([distortion.noise[self._shared.a], distortion.noise[self._shared.b]], axis=1)
        self._class = np.unique(noise, axis=0, return_inverse=True)[1].reshape(-1)

    def log_scales(self) -> Array:
        """(K,) logarithms of world units per submap unit at the knots."""
        rigid = np.log(self._world_from.scale)
        measured = self._shared.log_ratio - rigid[self._shared.b] + rigid[self._shared.a]
        unit = np.ones(len(rigid))
        held = self._held(2, unit, 1)
        bent = self._solve(lambda x: measured[:, None] - self._difference @ x, 2, unit, held)
        return np.asarray(rigid[self._knots.submap] + bent[:, 0])

    def rotations(self) -> Array:
        """(K, 3) rotation vectors in the world, after the rigid placement."""
        in_submap, turn = self._cameras.submap_from_cam[:, :3, :3], self._world_from.rotation

        def a_from_b(part: slice) -> Array:
            placed_a = turn[self._shared.a[part]] @ in_submap[self._row_a[part]]
            placed_b = turn[self._shared.b[part]] @ in_submap[self._row_b[part]]
            return np.asarray(placed_a @ np.swapaxes(placed_b, 1, 2))

        def residual(x: Array) -> Array:
            at_rows, off = self._at_rows @ x, np.empty((len(self._shared), 3))
            for start in range(0, len(off), _BLOCK):
                part = slice(start, start + _BLOCK)
                bent_a = Rotation.from_rotvec(at_rows[self._row_a[part]]).as_matrix()
                bent_b = Rotation.from_rotvec(at_rows[self._row_b[part]]).as_matrix()
                missed = bent_a @ a_from_b(part) @ np.swapaxes(bent_b, 1, 2)
                off[part] = Rotation.from_matrix(missed).as_rotvec()
            return off

        unit = np.ones(len(self._depth))
        held = self._held(0, unit, 3)
        if self._priors is not None:
            jitter = self._distortion.positive_jitter
            submap = self._cameras.submap[self._priors.rows]
            placed = turn[submap] @ in_submap[self._priors.rows]
            missed = self._priors.world_from_cam[:, :3, :3] @ np.swapaxes(placed, 1, 2)
            turns = Rotation.from_matrix(missed).as_rotvec()
            held = held.pulled(self._priors.rows, turns, jitter[0] ** 2 * self._priors.rotation_certainty)
        return self._solve(residual, 0, unit, held)

    def positions(self, log_scale: Array, turn: Array) -> Array:
        """(R, 4, 4) world from camera: bent paths, joined at the shared frames."""
        in_submap, submap = self._cameras.submap_from_cam, self._cameras.submap
        scale, turns = np.exp(self._at_rows @ log_scale), self._at_rows @ turn
        bounds = np.append(self._cameras.start[:-1:_SUBMAPS], len(submap))
        parts = [slice(*pair) for pair in itertools.pairwise(bounds)]

        def turned(rows: slice) -> Array:
            bent = Rotation.from_rotvec(turns[rows]).as_matrix()
            return np.asarray(bent @ self._world_from.rotation[submap[rows]])

        path = np.concatenate(
            [self._paths(submap[r], in_submap[r, :3, 3], scale[r], turned(r)) for r in parts]
        )
        apart = path[self._row_a] - path[self._row_b]
        held = self._held(1, self._depth, 3)
        if self._priors is not None:
            jitter = self._distortion.positive_jitter
            off = self._priors.world_from_cam[:, :3, 3] - path[self._priors.rows]
            held = held.pulled(self._priors.rows, off, jitter[1] ** 2 * self._priors.certainty)
        shift = self._at_rows @ self._solve(lambda x: apart - self._difference @ x, 1, self._depth, held)
        # The largest array comes last: the solver needs as much.
        world_from_cam = np.zeros_like(in_submap)
        for rows in parts:
            world_from_cam[rows, :3, :3] = turned(rows) @ in_submap[rows, :3, :3]
        world_from_cam[:, :3, 3] = path + shift
        world_from_cam[:, 3, 3] = 1.0
        return world_from_cam

    def placed(
        self, submaps: Sequence[SubmapCameras], log_scale: Array, world_from_cam: Array
    ) -> list[PlacedCameras]:
        """All of it; without priors, moved so that the first camera of submap 0 is where the rigid placement
        puts it."""
        scale = np.exp(self._at_rows @ log_scale)
        if self._priors is not None:
            return self._split(submaps, world_from_cam, scale)
        first = take(self._world_from, slice(0, 1)).move_pose(self._cameras.submap_from_cam[:1])[0]
        ratio = float(self._world_from.scale[0] / scale[0])
        rotation = first[:3, :3] @ world_from_cam[0, :3, :3].T
        shift = first[:3, 3] - ratio * rotation @ world_from_cam[0, :3, 3]
        moved = Sim3(scale=ratio, rotation=rotation, translation=shift).move_pose(world_from_cam)
        return self._split(submaps, moved, ratio * scale)

    def _split(
        self, submaps: Sequence[SubmapCameras], world_from_cam: Array, scale: Array
    ) -> list[PlacedCameras]:
        """Of (R, 4, 4) cameras and (R,) scales, those of every submap."""
        parts = [slice(*pair) for pair in zip(self._cameras.start, self._cameras.start[1:], strict=False)]
        return [
            PlacedCameras(chunk=s.chunk, world_from_cam=world_from_cam[part], depth_scale=scale[part])
            for s, part in zip(submaps, parts, strict=True)
        ]

    def _paths(self, submap: Indices, centres: Array, scale: Array, turned: Array) -> Array:
        """(r, 3) camera centres: each submap's own steps scaled and turned, around its rigid placement.

        Args:
            submap: (r,) of all cameras of some submaps.
            centres: (r, 3) in the submap.
            scale: (r,) world units per submap unit.
            turned: (r, 3, 3) world from submap, row by row.
        """
        start = np.flatnonzero(np.diff(submap, prepend=-1))
        both = (turned[1:] + turned[:-1]) / 2 * np.sqrt(scale[1:] * scale[:-1])[:, None, None]
        steps = np.zeros_like(centres)
        steps[1:] = np.einsum("nij,nj->ni", both, np.diff(centres, axis=0))
        steps[start] = 0.0
        path = np.cumsum(steps, axis=0)
        lengths = np.diff(start, append=len(submap))
        off = np.add.reduceat(take(self._world_from, submap).apply(centres) - path, start)
        return path + np.repeat(off / lengths[:, None], lengths, axis=0)

    def _held(self, channel: int, unit: Array, dimensions: int) -> _Held:
        """What keeps the bending of a channel near 0 where there are priors; arguments as of `_solve`."""
        submap = self._cameras.submap[: 0 if self._priors is None else None]
        return _Held(
            target=np.zeros((len(submap), dimensions)),
            certainty=1 / np.square(HELD * (unit * self._distortion.noise)[submap]),
        )

    def _solve(self, residual: Callable[[Array], Array], channel: int, unit: Array, held: _Held) -> Array:
        """(K, D) values at the knots, 0 at the pinned ones; robust against single frames.

        Args:
            residual: (M, D) what is left of the measurements at given values.
            channel: of the distortion.
            unit: (N,) length or angle that 1 stands for in every submap.
            held: what is known of the values at the rows.
        """
        unit = unit * self._distortion.noise
        ratio = self._distortion.ratio[channel]
        shared, links = self._shared, self._knots.submap[self._linked]
        variance = (np.square(unit[shared.a]) + np.square(unit[shared.b])) / 2
        stiffness = 1 / np.square(ratio * unit[links] * self._knots.rows_before[self._linked])
        held_rows = self._at_rows[: len(held.certainty)]
        jacobian = csr_array(scipy.sparse.vstack([self._difference, self._links, self._pins, held_rows]))
        off = residual(np.zeros((jacobian.shape[1], 1 if channel == 2 else 3)))
        x = np.zeros((jacobian.shape[1], off.shape[1]))
        judged = off - self._medians(off)
        for left in reversed(range(ROUNDS)):
            weights = self._weights(np.linalg.norm(judged, axis=1) / np.sqrt(variance))
            pinned = 1 / np.square(unit[self._pinned])
            certainty = [weights / (variance * self._doubt), stiffness, pinned, held.certainty]
            target = [off, -(self._links @ x), -(self._pins @ x), held.target - held_rows @ x]
            x = x + least_squares(
                jacobian, np.concatenate(certainty), np.concatenate(target), np.zeros((0, x.shape[1]))
            )
            if left:
                off = judged = residual(x)
        return x

    def _medians(self, off: Array) -> Array:
        """(M, D) of every row its edge's (lower) medians: garbage stands out from the beginning."""
        edge = self._shared.edge
        starts = np.flatnonzero(np.diff(edge, prepend=-1))
        count = np.diff(starts, append=len(edge))
        middle = starts + (count - 1) // 2
        medians = [column[np.lexsort((column, edge))][middle] for column in off.T]
        return np.repeat(np.stack(medians, axis=1), count, axis=0)

    def _weights(self, size: Array) -> Array:
        """(M,) Cauchy weights of residuals against the median of their class."""
        weights = np.ones(len(size))
        for number in range(int(self._class.max(initial=-1)) + 1):
            own = self._class == number
            limit = max(OUTLIER_MEDIANS * float(np.median(size[own])), _ROUNDING)
            weights[own] = 1 / (1 + np.square(size[own] / limit))
        return weights


def _first_of_components(nodes: int, edges: Sequence[SubmapEdge]) -> Indices:
    """(P,) the first submap of every group of connected ones: nothing else holds the group."""
    ends = ([edge.a for edge in edges], [edge.b for edge in edges])
    graph = scipy.sparse.coo_array((np.ones(len(edges)), ends), shape=(nodes, nodes))
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    return np.asarray(np.unique(component, return_index=True)[1], dtype=np.intp)
