"""Scales of depth at known poses: what each source of information is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream.errors import InputError
from da3stream.geometry import rigid3
from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import log_ratio_of, log_scale_of, place_at_known
from da3stream.scene import Chunk, SubmapCameras, SubmapEdge

FRAMES = 16


def known_path(seed: int, step: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    steps = step * rng.normal([0.2, 0, 1], 0.2, (FRAMES, 3))
    poses[:, :3, 3] = np.cumsum(steps, axis=0) + np.array([100.0, -20.0, 7.0])
    poses[:, :3, :3] = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.03, (FRAMES, 3)), 0)).as_matrix()
    return poses


def submap(index: int, known: np.ndarray, scale: float, noise: float = 0.0, seed: int = 0) -> SubmapCameras:
    """A submap of which one unit is `scale` of the world's; centres with noise relative to its depth, 10."""
    rng = np.random.default_rng([seed, index])
    submap_from_world = Sim3(
        scale=1 / scale,
        rotation=Rotation.from_rotvec(rng.normal(size=3)).as_matrix(),
        translation=rng.normal(size=3),
    )
    poses = submap_from_world.move_pose(known)
    poses[:, :3, 3] += noise * 10 / scale * rng.normal(size=(FRAMES, 3))
    return SubmapCameras(
        chunk=Chunk(index=index, context=(), new=tuple(range(index * FRAMES, (index + 1) * FRAMES))),
        cam_from_submap=rigid3.invert(poses)[:, :3],
        typical_depth=10 / scale,
    )


def edge(a: int, b: int, ratios: list[float], method: str = "points") -> SubmapEdge:
    evidence: dict[str, Any] = {"method": method, "depth_ratios": ratios, "frames": list(range(len(ratios)))}
    return SubmapEdge(a=a, b=b, a_from_b=Sim3.identity(), information=np.eye(7), evidence=evidence)


@pytest.mark.parametrize("scale", [1e-3, 0.2, 1.0, 50.0])
def test_exact_cameras_give_the_exact_scale(scale: float) -> None:
    known = known_path(1)
    measured = log_scale_of(submap(0, known, scale), known)
    assert measured is not None
    assert measured.value == pytest.approx(np.log(scale), abs=1e-9)
    assert measured.sigma < 0.02


def test_noise_neither_shortens_nor_stretches() -> None:
    known = known_path(1)
    errors = []
    for seed in range(40):
        measured = log_scale_of(submap(0, known, 2.0, noise=0.01, seed=seed), known)
        assert measured is not None
        errors.append((measured.value - np.log(2.0)) / measured.sigma)
    assert abs(np.mean(errors)) < 0.5
    assert 0.3 < np.std(errors) < 2.0  # what it claims is what it errs


def test_a_few_wrong_cameras_change_little() -> None:
    known = known_path(1)
    right = submap(0, known, 2.0)
    cameras = right.cam_from_submap.copy()
    cameras[[4, 9, 13], :, 3] += 3.0
    wrong = SubmapCameras(chunk=right.chunk, cam_from_submap=cameras, typical_depth=right.typical_depth)
    measured = log_scale_of(wrong, known)
    assert measured is not None
    assert measured.value == pytest.approx(np.log(2.0), abs=0.02)


def test_a_camera_that_hardly_moves_is_hardly_believed() -> None:
    far, near = known_path(1), known_path(1, step=1e-4)
    moving, standing = log_scale_of(submap(0, far, 2.0), far), log_scale_of(submap(0, near, 2.0), near)
    assert moving is not None
    assert standing is not None
    assert standing.sigma > 100 * moving.sigma
    still = np.repeat(far[:1], FRAMES, axis=0)
    assert log_scale_of(submap(0, still, 2.0), still) is None
    assert log_scale_of(submap(0, still, 2.0), far) is None  # the estimate stands still, the truth does not


def test_motion_against_the_known_one_says_nothing() -> None:
    known = known_path(1)
    right = submap(0, known, 1.0)
    poses = rigid3.invert(rigid3.to_4x4(right.cam_from_submap))
    poses[:, :3, 3] *= -1
    mirrored = SubmapCameras(
        chunk=right.chunk, cam_from_submap=rigid3.invert(poses)[:, :3], typical_depth=10.0
    )
    assert log_scale_of(mirrored, known) is None


def test_edges_say_the_median_and_those_from_poses_little() -> None:
    points = log_ratio_of(edge(0, 1, [2.0, 2.0, 2.02, 1.98, 9.0]))
    assert points.value == pytest.approx(np.log(2.0))
    assert points.sigma < 0.05
    assert log_ratio_of(edge(0, 1, [2.0], method="poses")).sigma > 0.2


def test_a_still_submap_has_its_scale_from_both_neighbours() -> None:
    paths = [known_path(0), np.repeat(known_path(1)[:1], FRAMES, axis=0), known_path(2)]
    scales = [2.0, 3.0, 5.0]
    submaps = [
        submap(index, path, scale) for index, (path, scale) in enumerate(zip(paths, scales, strict=True))
    ]
    # Depth in a over depth in b: a unit of b is scale_b, so the same depth is 1 / scale_b in it.
    edges = [edge(0, 1, [3.0 / 2.0] * 4), edge(1, 2, [5.0 / 3.0] * 4)]
    placement = place_at_known(submaps, edges, paths)
    np.testing.assert_allclose(np.exp(placement.log_scale), scales, rtol=1e-6)
    for placed, path, scale in zip(placement.cameras, paths, scales, strict=True):
        np.testing.assert_array_equal(placed.world_from_cam, path)
        np.testing.assert_allclose(placed.depth_scale, scale, rtol=1e-6)


def test_a_wrong_edge_is_outvoted() -> None:
    paths = [known_path(index) for index in range(4)]
    submaps = [submap(index, path, 2.0) for index, path in enumerate(paths)]
    edges = [edge(a, a + 1, [1.0] * 4) for a in range(3)] + [edge(0, 3, [4.0] * 4)]
    np.testing.assert_allclose(np.exp(place_at_known(submaps, edges, paths).log_scale), 2.0, rtol=0.01)


def test_metric_submaps_that_stand_still_are_in_metres() -> None:
    path = np.repeat(known_path(1)[:1], FRAMES, axis=0)
    with pytest.raises(InputError, match="tell no scale"):
        place_at_known([submap(0, path, 1.0)], [], [path])
    placement = place_at_known([submap(0, path, 1.0)], [], [path], metric_nodes=[0])
    np.testing.assert_allclose(placement.log_scale, 0.0, atol=1e-12)
