"""The estimator without learned weights: structure from motion, then dense stereo."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import EstimationError
from da3stream.estimation.classical.dense import SparseDepth, dense_depth
from da3stream.estimation.classical.dense.views import small_views
from da3stream.estimation.classical.sparse import SparseEstimator, SparseSolution
from da3stream.estimation.classical.worker_pool import WorkerPool
from da3stream.scene import KnownCameras, Prediction

FLAT_CONFIDENCE = 0.01
"""Of the constant depth of a chunk without parallax: what dense stereo gives to pixels that it filled in."""


class ClassicalEstimator:
    """Poses by structure from motion and depth by stereo, on a CPU.

    Needs texture and a camera that moves; a chunk without either gives rotations, constant depth and a
    warning. The scale of each chunk is arbitrary: the median depth of its sparse points is 1. Implements
    `GeometryEstimator`.
    """

    name = "classical"
    is_metric = False

    def __init__(self, *, seed: int = 0) -> None:
        """`seed` is that of every random choice; equal arguments and seeds give equal predictions."""
        self._pool = WorkerPool()
        self._sparse = SparseEstimator(self._pool, seed=seed)

    def estimate(
        self, images: NDArray[np.uint8], *, indices: NDArray[Any], known_cameras: KnownCameras | None = None
    ) -> Prediction:
        """Estimate the geometry of a chunk.

        Args:
            images: (N, H, W, 3) uint8 RGB, N >= 2.
            indices: (N,) frame indices.
            known_cameras: intrinsics are kept as given; no features are taken where images are to be ignored.
                Known poses are kept if intrinsics are known, too, and the images agree with them: then only
                points are triangulated.

        Raises:
            EstimationError: a single image, or arrays that do not belong together.
            ProcessLostError: a worker process was killed from outside.
        """
        _check(images, indices, known_cameras)
        intrinsics = known_cameras.intrinsics if known_cameras else None
        ignored = known_cameras.ignored if known_cameras else None
        poses = known_cameras.cam_from_world if known_cameras else None
        solution = self._sparse.solve(images, np.asarray(indices, dtype=np.int64), intrinsics, ignored, poses)
        return (
            _dense_prediction(images, solution)
            if solution.has_parallax
            else _flat_prediction(images, solution)
        )

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()

    def __enter__(self) -> ClassicalEstimator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check(images: NDArray[np.uint8], indices: NDArray[Any], known_cameras: KnownCameras | None) -> None:
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise EstimationError(
            "the images have a wrong form",
            got=f"{images.dtype} {images.shape}",
            expected="uint8 (N, H, W, 3)",
        )
    if len(images) < 2:
        raise EstimationError(
            "the classical estimator works by parallax",
            got=f"{len(images)} frame",
            expected="at least 2 frames from a moving camera",
            hint="Give it a video or several images, or use a da3 model, which can work on a single one.",
        )
    if np.shape(indices) != (len(images),):
        raise EstimationError("indices do not fit the images", got=np.shape(indices), expected=(len(images),))
    intrinsics = known_cameras.intrinsics if known_cameras else None
    ignored = known_cameras.ignored if known_cameras else None
    if ignored is not None and ignored.shape != images.shape[:3]:
        raise EstimationError("masks do not fit the images", got=ignored.shape, expected=images.shape[:3])
    if intrinsics is not None and len(intrinsics) != len(images):
        raise EstimationError(
            "known intrinsics do not fit the images", got=intrinsics.shape, expected=(len(images), 3, 3)
        )


def _dense_prediction(images: NDArray[np.uint8], solution: SparseSolution) -> Prediction:
    found = solution.reconstruction
    maps = dense_depth(images, found.intrinsics, found.cam_from_submap, sparse=sparse_depth(solution))
    trust = solution.trust.astype(np.float32)[:, None, None]
    return Prediction(
        depth=maps.depth,
        confidence=maps.confidence * trust,
        cam_from_submap=found.cam_from_submap,
        intrinsics=maps.intrinsics,
        is_metric=False,
        settled_intrinsics=solution.settled_intrinsics,
        warnings=solution.warnings,
    )


def _flat_prediction(images: NDArray[np.uint8], solution: SparseSolution) -> Prediction:
    """Depth 1 everywhere, at the size of dense depth, so that all chunks of a run have maps of one size."""
    found = solution.reconstruction
    views = small_views(images, found.intrinsics, found.cam_from_submap)
    return Prediction(
        depth=np.ones(views.grey.shape, dtype=np.float32),
        confidence=np.full(views.grey.shape, FLAT_CONFIDENCE, dtype=np.float32),
        cam_from_submap=found.cam_from_submap,
        intrinsics=views.intrinsics,
        is_metric=False,
        warnings=solution.warnings,
    )


def sparse_depth(solution: SparseSolution) -> SparseDepth:
    """The z-depth of every observed point, at the keypoints that observe it."""
    found = solution.reconstruction
    depths = found.observed_depths()
    image, keypoint, _ = found.observations.T
    usable = np.isfinite(depths) & (depths > 0)
    rows = [np.flatnonzero(usable & (image == each)) for each in range(len(found.registered))]
    return SparseDepth(
        positions_px=tuple(
            solution.keypoints[each][keypoint[row]].astype(np.float64) for each, row in enumerate(rows)
        ),
        depths=tuple(depths[row] for row in rows),
    )
