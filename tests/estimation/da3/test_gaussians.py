"""Gaussians in the world, rotated colours, and the table for a PLY file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from da3stream.estimation.da3.gaussian_table import gaussian_table
from da3stream.estimation.da3.gaussians import Gaussians, gaussians_from_raw, trajectory_scale
from da3stream.estimation.da3.spherical_harmonics import rotate_harmonics
from tests.estimation.da3.golden import FOLDER, load, load_meta, relative_error

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


def small_table_input(height: int = 64, width: int = 96) -> tuple[Gaussians, Tensor]:
    """Three views of distinguishable Gaussians: the means are view, row and column."""
    generator = torch.Generator().manual_seed(0)
    view, row, column = torch.meshgrid(*map(torch.arange, (3, height, width)), indexing="ij")
    shape = view.shape
    gaussians = Gaussians(
        means=torch.stack([view, row, column], dim=-1).float(),
        scales=0.1 + torch.rand(*shape, 3, generator=generator),
        rotations=torch.randn(*shape, 4, generator=generator),
        harmonics=torch.randn(*shape, 3, 9, generator=generator),
        opacities=torch.rand(shape, generator=generator).clamp(0.01, 0.99),
    )
    return gaussians, 1 + torch.rand(shape, generator=generator)


def test_the_table_drops_border_and_far_pixels_and_keeps_the_order() -> None:
    gaussians, depth = small_table_input()
    values = gaussian_table(gaussians, depth, every=2).values
    means = values[:, :3]
    near = depth <= torch.quantile(depth.flatten(1), 0.9, dim=1)[:, None, None]
    expected = torch.tensor(
        [[v, r, c] for v in (0, 2) for r in range(2, 62) for c in range(3, 93) if near[v, r, c]]
    )
    assert torch.equal(means, expected.float())


def test_every_column_holds_what_its_name_says() -> None:
    gaussians, depth = small_table_input(8, 8)
    table = gaussian_table(gaussians, depth, near_share=1.0, drop_border=False, all_harmonics=True)
    column = dict(zip(table.columns, table.values.T, strict=True))
    assert len(column) == 41
    assert table.values.dtype == torch.float32
    torch.testing.assert_close(column["scale_1"].exp(), gaussians.scales[..., 1].flatten())
    torch.testing.assert_close(column["opacity"].sigmoid(), gaussians.opacities.flatten())
    assert torch.equal(column["f_dc_2"], gaussians.harmonics[..., 2, 0].flatten())
    assert torch.equal(column["f_rest_9"], gaussians.harmonics[..., 1, 2].flatten())
    assert torch.equal(column["rot_3"], gaussians.rotations[..., 3].flatten())
    assert not column["nx"].any()


def test_every_number_of_the_table_is_finite() -> None:
    gaussians, depth = small_table_input(8, 8)
    gaussians.scales[0, 1, 2] *= -1
    gaussians.scales[1, 1, 2, 0] = 0
    gaussians.opacities[2, :4], gaussians.opacities[2, 4:] = 0.0, 1.0
    values = gaussian_table(gaussians, depth, near_share=1.0, drop_border=False).values
    assert len(values) == 3 * 8 * 8 - 2
    assert values.isfinite().all()


def test_the_normalised_table_has_its_median_at_the_origin() -> None:
    gaussians, depth = small_table_input()
    plain, moved = (gaussian_table(gaussians, depth, normalise=normalise) for normalise in (False, True))
    means, moved_means = plain.values[:, :3], moved.values[:, :3]
    assert torch.equal(moved_means.median(dim=0).values, torch.zeros(3))
    assert 0.9 < moved_means.abs().max() < 1.2
    extent = (means[-1] - means[0]) / (moved_means[-1] - moved_means[0])
    torch.testing.assert_close(extent, extent[:1].expand(3), rtol=1e-4, atol=0)
    log_scale = plain.columns.index("scale_0")
    shrunk = plain.values[:, log_scale] - moved.values[:, log_scale]
    torch.testing.assert_close(shrunk, extent[0].log().expand_as(shrunk), rtol=1e-4, atol=0)


@pytest.mark.data
@pytest.mark.parametrize("case", ["export", "every2", "fullsh"])
def test_published_table(shared: Path, case: str) -> None:
    path = shared / "da3" / "fixtures" / "gs_ply.npz"
    golden, meta = load(path), load_meta(path)[case]
    shape = golden["depth"].shape
    gaussians = Gaussians(
        **{field.name: golden[field.name].unflatten(0, shape) for field in fields(Gaussians)}
    )
    arguments = meta["args"]
    table = gaussian_table(
        gaussians,
        golden["depth"],
        every=arguments["gs_views_interval"],
        near_share=arguments["prune_by_depth_percent"],
        drop_border=arguments["prune_border_gs"],
        all_harmonics=not arguments["save_sh_dc_only"],
        normalise=arguments["shift_and_scale"],
    )
    assert list(table.columns) == meta["fields"]
    assert len(table.values) == meta["count"]
    torch.testing.assert_close(
        table.values[:: meta["row_stride"]], golden[f"ply.{case}"], rtol=1e-6, atol=1e-7
    )
