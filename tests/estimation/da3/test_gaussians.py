"""Gaussians in the world and rotated colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from da3stream.estimation.da3.gaussians import gaussians_from_raw, trajectory_scale
from da3stream.estimation.da3.spherical_harmonics import rotate_harmonics
from tests.estimation.da3.golden import FOLDER, load, relative_error

LAW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
VIEWS, HEIGHT, WIDTH = 2, 5, 7


def random_rotations(seed: int, count: int) -> Tensor:
    return torch.from_numpy(Rotation.random(count, rng=np.random.default_rng(seed)).as_matrix())


def basis(directions: Tensor) -> Tensor:
    """(..., 9) the basis of 3D Gaussian Splatting at (..., 3) unit directions, constants written out."""
    x, y, z = directions.unbind(-1)
    first = [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    second = [
        1.0925484305920792 * x * y,
        -1.0925484305920792 * y * z,
        0.31539156525252005 * (2 * z * z - x * x - y * y),
        -1.0925484305920792 * x * z,
        0.5462742152960396 * (x * x - y * y),
    ]
    return torch.stack([torch.full_like(x, 0.28209479177387814), *first, *second], dim=-1)


@LAW
@given(SEEDS)
def test_rotated_harmonics_are_the_same_colours_seen_from_the_turned_frame(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    coefficients = torch.randn(4, 3, 9, generator=generator, dtype=torch.float64)
    turn = random_rotations(seed, 4)
    directions = torch.randn(4, 20, 3, generator=generator, dtype=torch.float64)
    directions /= directions.norm(dim=-1, keepdim=True)
    in_target = basis(directions) @ rotate_harmonics(coefficients, turn).mT
    in_source = basis(directions @ turn) @ coefficients.mT
    torch.testing.assert_close(in_target, in_source, rtol=0, atol=1e-12)


def world(seed: int = 0) -> dict[str, Tensor]:
    """Arguments of `gaussians_from_raw`, float64, with random poses and numbers."""
    generator = torch.Generator().manual_seed(seed)
    poses = torch.cat([random_rotations(seed, VIEWS), torch.randn(VIEWS, 3, 1, generator=generator)], dim=-1)
    raw = torch.randn(VIEWS, HEIGHT, WIDTH, 37, generator=generator).double()
    raw[..., 36] *= 0.1
    return {
        "raw": raw,
        "opacity": torch.rand(VIEWS, HEIGHT, WIDTH, generator=generator).double(),
        "depth": 1 + torch.rand(VIEWS, HEIGHT, WIDTH, generator=generator).double(),
        "cam_from_world": poses,
        "intrinsics": torch.tensor([[30.0, 0, 3], [0, 40, 2.5], [0, 0, 1]]).double().expand(VIEWS, 3, 3),
    }


def in_camera(points: Tensor, cam_from_world: Tensor) -> Tensor:
    turned = torch.einsum("nij,nhwj->nhwi", cam_from_world[:, :, :3], points)
    return turned + cam_from_world[:, None, None, :, 3]


def test_means_lie_at_their_distance_on_the_rays_through_the_moved_pixels() -> None:
    arguments = world()
    points = in_camera(gaussians_from_raw(**arguments).means, arguments["cam_from_world"])
    distance = arguments["depth"] + arguments["raw"][..., 36]
    torch.testing.assert_close(points.norm(dim=-1), distance)
    column = 30 * points[..., 0] / points[..., 2] + 3 - arguments["raw"][..., 0]
    row = 40 * points[..., 1] / points[..., 2] + 2.5 - arguments["raw"][..., 1]
    torch.testing.assert_close(column, (torch.arange(WIDTH) + 0.5).double().expand(VIEWS, HEIGHT, WIDTH))
    torch.testing.assert_close(
        row, (torch.arange(HEIGHT) + 0.5).double()[:, None].expand(VIEWS, HEIGHT, WIDTH)
    )


def test_scales_grow_with_distance_between_their_limits() -> None:
    arguments = world()
    unit = (arguments["depth"] + arguments["raw"][..., 36]) * 0.1 * (1 / 30 + 1 / 40)
    arguments["raw"][..., 2], arguments["raw"][..., 3], arguments["raw"][..., 4] = -100, 0, 100
    relative = gaussians_from_raw(**arguments).scales / unit[..., None]
    torch.testing.assert_close(relative[0, 0, 0], torch.tensor([1e-5, 15.000005, 30]).double())
    torch.testing.assert_close(relative, relative[:1, :1, :1].expand_as(relative))


def test_rotations_are_the_cameras_times_the_predicted_ones() -> None:
    arguments = world()
    found = gaussians_from_raw(**arguments).rotations
    torch.testing.assert_close(found.norm(dim=-1), torch.ones_like(found[..., 0]))
    assert (found[..., 3] >= 0).all()
    local = Rotation.from_quat(arguments["raw"][..., [8, 5, 6, 7]].reshape(-1, 4).numpy()).as_matrix()
    world_from_cam = arguments["cam_from_world"][:, :, :3].mT.repeat_interleave(HEIGHT * WIDTH, 0).numpy()
    in_world = Rotation.from_quat(found.reshape(-1, 4).numpy()).as_matrix()
    np.testing.assert_allclose(in_world, world_from_cam @ local, atol=1e-9)


def test_a_given_trajectory_gives_its_size_only() -> None:
    arguments = world()
    poses = torch.cat([random_rotations(3, 4), torch.randn(4, 3, 1).double()], dim=-1)
    larger = poses.clone()
    larger[:, :, 3] *= 2.0
    assert trajectory_scale(poses, larger) == pytest.approx(2.0)
    two = larger[:VIEWS].clone()
    two[:, :, 3] = arguments["cam_from_world"][:, :, 3] * 2.0
    two[:, :, :3] = arguments["cam_from_world"][:, :, :3]
    plain, rescaled = (
        gaussians_from_raw(**arguments),
        gaussians_from_raw(**arguments, given_cam_from_world=two),
    )
    torch.testing.assert_close(rescaled.means, 2 * plain.means)
    torch.testing.assert_close(rescaled.scales, 2 * plain.scales)
    torch.testing.assert_close(rescaled.rotations, plain.rotations)


@pytest.mark.parametrize(("factor", "expected"), [(100.0, 3.0), (0.01, 1 / 3)])
def test_trajectories_of_another_size_count_in_part(factor: float, expected: float) -> None:
    poses = torch.cat([random_rotations(3, 4), torch.randn(4, 3, 1).double()], dim=-1)
    given_poses = poses.clone()
    given_poses[:, :, 3] *= factor
    assert trajectory_scale(poses, given_poses) == pytest.approx(expected)


@pytest.mark.parametrize("views", [1, 3])
def test_cameras_that_do_not_move_leave_the_size_as_it_is(views: int) -> None:
    still = torch.eye(4)[:3].expand(views, 3, 4)
    assert trajectory_scale(still, still) == 1.0


def test_arguments_stay_as_they_are() -> None:
    arguments = world()
    copies = {name: value.clone() for name, value in arguments.items()}
    gaussians_from_raw(**arguments)
    assert all(torch.equal(arguments[name], copies[name]) for name in arguments)


@pytest.mark.parametrize("prefix", ["", "gt."])
def test_published_gaussians(prefix: str) -> None:
    assert_published(load(FOLDER / "gs_adapter_crop.npz"), prefix)


@pytest.mark.data
@pytest.mark.parametrize("prefix", ["", "gt."])
def test_published_gaussians_of_whole_images(shared: Path, prefix: str) -> None:
    assert_published(load(shared / "da3" / "fixtures" / "gs_adapter_synth.npz"), prefix)


def assert_published(golden: dict[str, Tensor], prefix: str) -> None:
    found = gaussians_from_raw(
        *(golden[name] for name in ("raw", "opacity", "depth", "extrinsics", "intrinsics")),
        given_cam_from_world=golden["gt_extrinsics"] if prefix else None,
    )
    for name in ("means", "scales", "rotations", "opacities"):
        assert relative_error(getattr(found, name), golden[prefix + name]) < 2e-6, name
    assert relative_error(found.harmonics[:, ::3, ::3], golden[prefix + "harmonics_s3"]) < 2e-6


def test_published_rotation_of_colours() -> None:
    """The published one takes matrix exponentials in float32; ours equals the definition to 1e-12."""
    golden = load(FOLDER / "gs_adapter_crop.npz")
    rotated = rotate_harmonics(golden["sh_in"], golden["sh_rot"])
    assert relative_error(rotated, golden["sh_out"]) < 1e-5
