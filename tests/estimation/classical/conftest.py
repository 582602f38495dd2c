"""A synthetic world: random points seen by known cameras, as a view graph without any image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.estimation.classical.matching import Calibration
from da3stream.estimation.classical.reconstruction import Reconstruction
from da3stream.estimation.classical.view_graph import TwoView, ViewGraph, candidate_pairs
from da3stream.estimation.classical.worker_pool import WorkerPool
from da3stream.geometry.sim3 import skew

SIZE = (504, 378)
FOCAL_PX = 380.0
CALIBRATED = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """Cameras, points and their matches, with the truth."""

    graph: ViewGraph
    calibration: Calibration
    truth: Reconstruction
    """Exact poses, all registered; keypoint row k of every image that sees point k is k."""

    @property
    def indices(self) -> NDArray[np.int64]:
        return np.arange(len(self.truth.registered))


PoseMaker = Callable[..., NDArray[np.float64]]


def make_turning_poses(n: int, *, step_deg: float) -> NDArray[np.float64]:
    """(N, 3, 4) cameras that turn about the vertical on one spot."""
    poses = np.zeros((n, 3, 4))
    poses[:, :, :3] = Rotation.from_euler("y", step_deg * np.arange(n)[:, None], degrees=True).as_matrix()
    return poses


def make_orbit_poses(n: int, *, step_deg: float = 3.0, radius: float = 4.0) -> NDArray[np.float64]:
    """(N, 3, 4) cameras that walk around the point `radius` in front of the first one, looking at it."""
    poses = make_turning_poses(n, step_deg=step_deg)
    centre = np.array([0.0, 0.0, radius])
    poses[:, :, 3] = centre - poses[:, :, :3] @ centre
    return poses


def build_world(
    cam_from_world: NDArray[np.float64],
    *,
    noise_px: float = 0.0,
    points: int = 400,
    outlier_share: float = 0.0,
    known: bool = True,
    seed: int = 0,
) -> World:
    """Points in a box around (0, 0, 4), seen by the cameras; `outlier_share` of each image's keypoints is
    moved."""
    rng = np.random.default_rng(seed)
    n = len(cam_from_world)
    world_points = rng.uniform([-6.0, -1.5, 2.5], [6.0, 1.5, 5.5], size=(points, 3))
    matrix = np.array([[FOCAL_PX, 0.0, SIZE[0] / 2], [0.0, FOCAL_PX, SIZE[1] / 2], [0.0, 0.0, 1.0]])
    in_camera = (
        np.einsum("nij,pj->npi", cam_from_world[:, :, :3], world_points) + cam_from_world[:, None, :, 3]
    )
    projected = in_camera @ matrix.T
    pixels = projected[..., :2] / projected[..., 2:]
    visible = (in_camera[..., 2] > 0.1) & (pixels > 0).all(-1) & (pixels < np.array(SIZE)).all(-1)
    keypoints = pixels + rng.normal(0.0, noise_px or 1e-12, pixels.shape)
    moved = rng.random((n, points)) < outlier_share
    keypoints[moved] += rng.uniform(10.0, 40.0, (int(moved.sum()), 2))
    graph = _graph(keypoints.astype(np.float32), visible, cam_from_world, matrix)
    seen = np.argwhere(visible)
    truth = Reconstruction(
        cam_from_submap=cam_from_world,
        registered=np.ones(n, dtype=bool),
        intrinsics=np.repeat(matrix[None], n, axis=0),
        points=world_points,
        observations=np.stack([seen[:, 0], seen[:, 1], seen[:, 1]], axis=1).astype(np.int32),
    )
    return World(
        graph=graph, truth=truth, calibration=Calibration(intrinsics=truth.intrinsics, size=SIZE, known=known)
    )


def _graph(
    keypoints: NDArray[np.float32],
    visible: NDArray[np.bool_],
    cam_from_world: NDArray[np.float64],
    matrix: NDArray[np.float64],
) -> ViewGraph:
    pairs, views = [], []
    inverse = np.linalg.inv(matrix)
    for first, second in candidate_pairs(np.arange(len(keypoints))).tolist():
        shared = np.flatnonzero(visible[first] & visible[second])
        if len(shared) < 15:
            continue
        rotation = cam_from_world[second, :, :3] @ cam_from_world[first, :, :3].T
        translation = cam_from_world[second, :, 3] - rotation @ cam_from_world[first, :, 3]
        essential = skew(translation) @ rotation
        pairs.append((first, second))
        views.append(
            TwoView(
                matches=np.stack([shared, shared], axis=1).astype(np.int32),
                kind=CALIBRATED,
                fundamental=inverse.T @ essential @ inverse,
                essential=essential,
                homography=np.full((3, 3), np.nan),
            )
        )
    return ViewGraph(
        keypoints=tuple(keypoints), pairs=np.array(pairs, np.int32).reshape(-1, 2), two_views=tuple(views)
    )


@pytest.fixture
def turning_poses() -> PoseMaker:
    """`turning_poses(n, step_deg=...)`: see `make_turning_poses`."""
    return make_turning_poses


@pytest.fixture
def orbit_poses() -> PoseMaker:
    """`orbit_poses(n)`: see `make_orbit_poses`."""
    return make_orbit_poses


@pytest.fixture
def orbit() -> World:
    """Nine cameras around an object, exact."""
    return build_world(make_orbit_poses(9))


@pytest.fixture
def noisy_orbit() -> World:
    """Twelve cameras around an object, half a pixel of noise."""
    return build_world(make_orbit_poses(12), noise_px=0.5)


@pytest.fixture
def make_world() -> Callable[..., World]:
    """Build a world from poses; see `build_world`."""
    return build_world


@pytest.fixture(scope="session")
def pool() -> Iterator[WorkerPool]:
    """Worker processes shared by all tests."""
    workers = WorkerPool(time_limit_s=120.0)
    yield workers
    workers.close()
