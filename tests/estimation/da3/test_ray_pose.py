"""Cameras from rays: rays of known cameras, outliers, and the published post-processing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from da3stream.errors import EstimationError
from da3stream.estimation.da3 import ray_pose
from da3stream.estimation.da3.pose_encoding import Cameras
from da3stream.estimation.da3.ray_pose import draw_sample_indices, pose_from_rays
from tests.estimation.da3.golden import FOLDER, load, relative_error

LAW = settings(max_examples=15, deadline=None)
WIDTH, HEIGHT = 140, 98
ROWS, COLUMNS = HEIGHT * 8 // 14, WIDTH * 8 // 14


def known_cameras(seed: int, views: int = 2) -> Cameras:
    """Random cameras that look roughly along +z, the principal point in the middle of the image."""
    random = np.random.default_rng(seed)
    rotation = Rotation.from_rotvec(random.uniform(-0.3, 0.3, (views, 3))).as_matrix()
    extrinsics = np.concatenate([rotation, random.normal(size=(views, 3, 1))], axis=2)
    intrinsics = np.tile(np.diag([0.0, 0.0, 1.0]), (views, 1, 1))
    intrinsics[:, 0, 0] = random.uniform(0.6, 2.0, views) * WIDTH
    intrinsics[:, 1, 1] = random.uniform(0.6, 2.0, views) * WIDTH
    intrinsics[:, :2, 2] = WIDTH / 2, HEIGHT / 2
    return Cameras(extrinsics=torch.from_numpy(extrinsics), intrinsics=torch.from_numpy(intrinsics))


def rays_of(cameras: Cameras, rows: int = ROWS, columns: int = COLUMNS) -> Tensor:
    """(N, rows, columns, 6) float32 exact rays through the cell centres."""
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    pixels = torch.stack([x * WIDTH / columns, y * HEIGHT / rows, torch.ones_like(x)], dim=-1).double()
    world_from_cam = cameras.extrinsics[:, :, :3].mT
    back = world_from_cam @ torch.linalg.inv(cameras.intrinsics)
    directions = torch.einsum("nij,hwj->nhwi", back, pixels)
    origins = -(world_from_cam @ cameras.extrinsics[:, :, 3:])[:, None, None, :, 0]
    return torch.cat([directions, origins.expand_as(directions)], dim=-1).float()


def confidence_of(ray: Tensor, seed: int = 0) -> Tensor:
    return 1 + torch.rand(ray.shape[:3], generator=torch.Generator().manual_seed(seed))


def assert_equal_cameras(found: Cameras, expected: Cameras, tolerance: float) -> None:
    assert relative_error(found.extrinsics, expected.extrinsics) < tolerance
    assert relative_error(found.intrinsics, expected.intrinsics) < tolerance


@LAW
@given(st.integers(0, 2**32 - 1))
def test_exact_rays_give_the_camera(seed: int) -> None:
    cameras = known_cameras(seed)
    ray = rays_of(cameras)
    found = pose_from_rays(ray, confidence_of(ray), (WIDTH, HEIGHT))
    assert_equal_cameras(found, cameras, 1e-5)
    assert found.extrinsics.dtype == found.intrinsics.dtype == torch.float32


def test_wrong_rays_are_outvoted() -> None:
    cameras = known_cameras(1)
    ray = rays_of(cameras)
    confidence = confidence_of(ray)
    generator = torch.Generator().manual_seed(5)
    wrong = torch.rand(ray.shape[:3], generator=generator) < 0.15
    ray[..., :2] += 3 * wrong[..., None] * ray[..., 2:3].abs()
    found = pose_from_rays(ray, confidence, (WIDTH, HEIGHT))
    assert_equal_cameras(found, cameras, 1e-3)


def test_rays_without_a_usable_z_count_nowhere() -> None:
    """They would be the most confident ones, and their origins are far off."""
    cameras = known_cameras(2)
    ray = rays_of(cameras)
    confidence = confidence_of(ray)
    expected = pose_from_rays(ray, confidence, (WIDTH, HEIGHT))
    ray[:, 10:14, 10:14, 2] = 1e-5
    ray[:, 10:14, 10:14, 3:] = 1e6
    confidence[:, 10:14, 10:14] = 100.0
    assert_equal_cameras(pose_from_rays(ray, confidence, (WIDTH, HEIGHT)), expected, 1e-5)


@pytest.mark.parametrize("channel", range(7))
def test_rays_that_are_no_numbers_count_nowhere(channel: int) -> None:
    cameras = known_cameras(2)
    ray = rays_of(cameras)
    confidence = confidence_of(ray)
    broken = confidence if channel == 6 else ray[..., channel]
    broken[:, 10:14] = float("inf")
    broken[:, 14:18] = float("nan")
    assert_equal_cameras(pose_from_rays(ray, confidence, (WIDTH, HEIGHT)), cameras, 1e-5)


def test_many_inliers_are_thinned_to_the_more_confident(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the limit at 200, wrong rays within the inlier distance, all of low confidence, play no role."""
    monkeypatch.setattr(ray_pose, "MAX_REFIT_POINTS", 200)
    cameras = known_cameras(3)
    ray = rays_of(cameras)
    confidence = confidence_of(ray)
    doubtful = torch.zeros_like(confidence, dtype=torch.bool)
    doubtful[:, :2] = True
    ray[..., 0] += 0.05 * doubtful * ray[..., 2]
    confidence[doubtful] = 0.9
    assert 0.05 * confidence.numel() > doubtful.sum() / 2  # they fall to the 95 % rule
    assert_equal_cameras(pose_from_rays(ray, confidence, (WIDTH, HEIGHT)), cameras, 1e-5)


def test_the_same_rays_give_the_same_cameras_and_stay_as_they_are() -> None:
    ray = rays_of(known_cameras(4))
    ray += 0.01 * torch.randn(ray.shape, generator=torch.Generator().manual_seed(3))
    confidence = confidence_of(ray)
    before = ray.clone(), confidence.clone()
    first, second = (pose_from_rays(ray, confidence, (WIDTH, HEIGHT)) for _ in range(2))
    assert torch.equal(first.extrinsics, second.extrinsics)
    assert torch.equal(first.intrinsics, second.intrinsics)
    assert torch.equal(ray, before[0])
    assert torch.equal(confidence, before[1])


def test_views_do_not_influence_each_other() -> None:
    ray = rays_of(known_cameras(6, views=3))
    confidence = confidence_of(ray)
    together = pose_from_rays(ray, confidence, (WIDTH, HEIGHT))
    alone = pose_from_rays(ray[1:2], confidence[1:2], (WIDTH, HEIGHT))
    assert torch.equal(together.extrinsics[1:2], alone.extrinsics)


def test_mirrored_rays_still_give_a_rotation() -> None:
    """No camera sees them; the sign of the homography alone must not make the rotation a reflection."""
    ray = rays_of(known_cameras(7))
    ray[..., 0] *= -1
    found = pose_from_rays(ray, confidence_of(ray), (WIDTH, HEIGHT))
    assert torch.allclose(torch.linalg.det(found.extrinsics[:, :, :3]), torch.ones(2), atol=1e-5)


def test_too_few_rays_are_an_error() -> None:
    ray = rays_of(known_cameras(8), rows=1, columns=7)
    with pytest.raises(EstimationError, match="7 x 1 rays"):
        pose_from_rays(ray, confidence_of(ray), (WIDTH, HEIGHT))


def test_a_view_without_any_usable_ray_is_an_error_that_names_it() -> None:
    ray = rays_of(known_cameras(9))
    ray[1, ..., 2] = 0
    with pytest.raises(EstimationError, match="view 1"):
        pose_from_rays(ray, confidence_of(ray), (WIDTH, HEIGHT))


@pytest.mark.parametrize("seed", [0, 1])
def test_published_cameras_from_the_published_samples(seed: int) -> None:
    golden = load(FOLDER / "raypose_synth_a.npz")
    samples = golden[f"s{seed}.ransac_idx"]
    found = pose_from_rays(golden["ray"], golden["ray_conf"], (196, 140), sample_indices=samples)
    assert relative_error(found.extrinsics, golden[f"s{seed}.extrinsics"]) < 2e-6
    assert relative_error(found.intrinsics, golden[f"s{seed}.intrinsics"]) < 2e-6


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seeded_generator_draws_the_published_samples(seed: int) -> None:
    golden = load(FOLDER / "raypose_synth_a.npz")
    drawn = draw_sample_indices(golden["ray_conf"][0].numel(), torch.Generator().manual_seed(seed))
    assert torch.equal(drawn, golden[f"s{seed}.ransac_idx"])
    found = pose_from_rays(
        golden["ray"], golden["ray_conf"], (196, 140), generator=torch.Generator().manual_seed(seed)
    )
    assert relative_error(found.extrinsics, golden[f"s{seed}.extrinsics"]) < 2e-6


@pytest.mark.data
def test_published_cameras_from_ill_conditioned_rays(shared: Path) -> None:
    """Rays of a network with random weights, which hardly determine a camera at all."""
    golden = load(shared / "da3" / "fixtures" / "tiny_n5_ray.npz")
    found = pose_from_rays(
        golden["head.ray"], golden["head.ray_conf"], (98, 70), sample_indices=golden["ransac_idx"]
    )
    assert relative_error(found.extrinsics, golden["extrinsics"]) < 1e-4
    assert relative_error(found.intrinsics, golden["intrinsics"]) < 1e-4
