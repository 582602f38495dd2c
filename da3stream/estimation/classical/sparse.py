"""Poses, intrinsics and sparse points of one chunk: the order of the sparse steps, and what to do when one
fails."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from da3stream.estimation.classical.completion import interpolate_unregistered, normalised, register_by_pnp
from da3stream.estimation.classical.connectivity import firmly_connected, restricted
from da3stream.estimation.classical.epipolar import epipolar_score
from da3stream.estimation.classical.focal import find_focal, guess_intrinsics
from da3stream.estimation.classical.mapping import Candidate, Mapping
from da3stream.estimation.classical.matching import Calibration, ChunkMatcher
from da3stream.estimation.classical.reconstruction import Reconstruction
from da3stream.estimation.classical.rotation import PARALLAX_PX, parallax_px, rotation_chain
from da3stream.estimation.classical.view_graph import ViewGraph
from da3stream.estimation.classical.worker_pool import WorkerPool
from da3stream.geometry import rigid3

MIN_IMAGES = 3
"""Fewer images give the mappers nothing that a second one could confirm."""
TRUST_MAPPED, TRUST_PNP, TRUST_GUESSED = 1.0, 0.5, 0.02
FOCAL_IN_DOUBT = (
    "the focal length cannot be told from the motion, so depth may be stretched along the line of sight; "
    "give --intrinsics if you know the camera"
)
POSES_DO_NOT_FIT = (
    "the known poses miss the images by half a pixel or more, so depth rests on structure from motion; are "
    "they those of these frames (--pose-offset), and are the intrinsics right?"
)
MIN_POINTS = 30
MIN_SCORE = 0.6
"""Epipolar score of known poses. Those of KITTI have 0.73, with noise of 0.1 degrees (half a pixel) 0.55."""
ROTATION_FOCAL_FACTORS = tuple(np.geomspace(0.5, 2.5, 25).tolist())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SparseSolution:
    """What the sparse half of the estimator says of N images."""

    reconstruction: Reconstruction
    """In the frame of the first camera; every image has a finite pose. Without parallax: no points, no
    translation."""
    keypoints: tuple[NDArray[np.float32], ...]
    """N arrays (K_i, 2) in pixels, of which `reconstruction.observations` gives rows."""
    trust: NDArray[np.float64]
    """(N,) in (0, 1]: factor on the confidence of each image's depth."""
    has_parallax: bool
    """False where there is nothing to triangulate depth from."""
    settled_intrinsics: NDArray[np.float64] | None
    """(3, 3) in pixels of the images, if the focal was unknown and this chunk leaves no doubt about it."""
    candidates: tuple[Candidate, ...]
    """Every reconstruction that was compared, for reports and benchmarks."""
    warnings: tuple[str, ...]


class SparseEstimator:
    """Structure from motion of one chunk; its memory of earlier chunks saves time and changes no result."""

    def __init__(self, pool: WorkerPool, *, seed: int) -> None:
        self._pool, self._seed = pool, seed
        self._matcher = ChunkMatcher(pool, seed=seed)

    def solve(
        self,
        images: NDArray[np.uint8],
        indices: NDArray[np.int64],
        intrinsics: NDArray[np.float64] | None,
        ignored: NDArray[np.bool_] | None = None,
        cam_from_world: NDArray[np.float64] | None = None,
    ) -> SparseSolution:
        """Solve (N, H, W, 3) RGB images with the given (N, 3, 3) intrinsics, which are kept, or with unknown
        ones. No features are taken where (N, H, W) `ignored` is True.

        With known poses (N, 3, 4) and intrinsics only points are looked for, if the images agree with them.

        Never fails for lack of texture or parallax: then the solution is a rotation chain, with warnings.
        """
        n, height, width = images.shape[:3]
        guess = np.repeat(guess_intrinsics((width, height))[None], n, axis=0)
        calibration = Calibration(
            intrinsics=guess if intrinsics is None else np.asarray(intrinsics, dtype=np.float64),
            size=(width, height),
            known=intrinsics is not None,
        )
        matches = self._matcher.match(images, indices, calibration, ignored)
        solution = solve_graph(
            self._pool, matches.graph, indices, calibration, seed=self._seed, cam_from_world=cam_from_world
        )
        return replace(solution, warnings=matches.warnings + solution.warnings)


def solve_graph(
    pool: WorkerPool,
    graph: ViewGraph,
    indices: NDArray[np.int64],
    calibration: Calibration,
    *,
    seed: int,
    cam_from_world: NDArray[np.float64] | None = None,
) -> SparseSolution:
    """Solve a chunk that is matched already.

    Args:
        pool: what runs native code.
        graph: the matches.
        indices: (N,) frame indices, the time for interpolation.
        calibration: known or guessed intrinsics.
        seed: of every random choice.
        cam_from_world: (N, 3, 4) known poses, or None.
    """
    reason = _without_parallax(graph, calibration)
    if reason is not None:
        return _turning_only(graph, calibration, (), (reason,))
    if cam_from_world is not None and calibration.known:
        known = _at_known_poses(Mapping(pool, graph, calibration, seed=seed), graph, cam_from_world)
        if known is not None:
            return known
        solution = solve_graph(pool, graph, indices, calibration, seed=seed)
        return replace(solution, warnings=(*solution.warnings, POSES_DO_NOT_FIT))
    core = firmly_connected(graph)
    inside = restricted(graph, core) if core.sum() >= MIN_IMAGES else graph
    focal = find_focal(Mapping(pool, inside, calibration, seed=seed), known=calibration.known)
    if focal.chosen is None:
        failure = "no mapper could reconstruct the chunk; poses are rotations only, depth is constant"
        return _turning_only(graph, calibration, focal.attempt.candidates, (*focal.attempt.warnings, failure))
    completed = _complete(focal.chosen.reconstruction, graph, indices)
    doubts = () if calibration.known or focal.settled else (FOCAL_IN_DOUBT,)
    return SparseSolution(
        reconstruction=normalised(completed.reconstruction),
        keypoints=graph.keypoints,
        trust=completed.trust,
        has_parallax=True,
        settled_intrinsics=completed.reconstruction.intrinsics[0] if focal.settled else None,
        candidates=focal.attempt.candidates,
        warnings=focal.attempt.warnings + completed.warnings + doubts,
    )


def _at_known_poses(
    mapping: Mapping, graph: ViewGraph, cam_from_world: NDArray[np.float64]
) -> SparseSolution | None:
    """Points at known poses; None if the images do not agree with these."""
    # A map's origin may be far away: numbers stay small in the frame of the first camera.
    relative = rigid3.to_4x4(cam_from_world) @ rigid3.invert(rigid3.to_4x4(cam_from_world[0]))
    found = mapping.triangulate(np.ascontiguousarray(relative[:, :3]))
    if found is None or len(found.points) < MIN_POINTS or epipolar_score(found, graph) < MIN_SCORE:
        return None
    return SparseSolution(
        reconstruction=normalised(found),
        keypoints=graph.keypoints,
        trust=np.full(len(graph.keypoints), TRUST_MAPPED),
        has_parallax=True,
        settled_intrinsics=None,
        candidates=(),
        warnings=(),
    )


def _without_parallax(graph: ViewGraph, calibration: Calibration) -> str | None:
    """Why the chunk should not be mapped, or None."""
    n = len(graph.keypoints)
    if n < MIN_IMAGES:
        return (
            f"a chunk of {n} frames is too short to reconstruct; poses are rotations only, depth is constant"
        )
    if len(graph.pairs) == 0:
        return "no two frames of the chunk match; poses are the identity, depth is constant"
    factors = (1.0,) if calibration.known else ROTATION_FOCAL_FACTORS
    moved_px = parallax_px(graph, calibration.intrinsics, factors)
    if moved_px < PARALLAX_PX:
        return f"the camera stands still or only turns (parallax {moved_px:.2f} px); depth is constant"
    return None


def _turning_only(
    graph: ViewGraph, calibration: Calibration, candidates: tuple[Candidate, ...], warnings: tuple[str, ...]
) -> SparseSolution:
    n = len(graph.keypoints)
    turning = Reconstruction(
        cam_from_submap=rotation_chain(graph, calibration.intrinsics),
        registered=np.ones(n, dtype=bool),
        intrinsics=calibration.intrinsics,
        points=np.zeros((0, 3)),
        observations=np.zeros((0, 3), dtype=np.int32),
    )
    return SparseSolution(
        reconstruction=turning,
        keypoints=graph.keypoints,
        trust=np.full(n, TRUST_GUESSED),
        has_parallax=False,
        settled_intrinsics=None,
        candidates=candidates,
        warnings=warnings,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Completed:
    reconstruction: Reconstruction
    trust: NDArray[np.float64]
    warnings: tuple[str, ...]


def _complete(mapped: Reconstruction, graph: ViewGraph, indices: NDArray[np.int64]) -> _Completed:
    """Give every image a pose: by PnP where it sees enough points, else by interpolation."""
    by_pnp = register_by_pnp(mapped, graph)
    trust = np.where(mapped.registered, TRUST_MAPPED, np.where(by_pnp.registered, TRUST_PNP, TRUST_GUESSED))
    warnings = []
    if by_pnp.num_registered > mapped.num_registered:
        warnings.append(f"{by_pnp.num_registered - mapped.num_registered} frames were placed by PnP alone")
    guessed = indices[~by_pnp.registered]
    if len(guessed):
        warnings.append(f"{len(guessed)} frames could not be placed and are interpolated: {_listed(guessed)}")
    completed = interpolate_unregistered(by_pnp, indices)
    return _Completed(reconstruction=completed, trust=trust, warnings=tuple(warnings))


def _listed(indices: NDArray[np.int64], limit: int = 8) -> str:
    names = [str(index) for index in indices[:limit].tolist()]
    return ", ".join(names) + (", ..." if len(indices) > limit else "")
