"""Which of the network's Gaussians are kept, and where they lie before their cameras."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from da3stream.estimation.base import GaussianOptions
from da3stream.estimation.da3.gaussian_choice import frame_gaussians, worth_keeping
from da3stream.estimation.da3.gaussians import Gaussians, gaussians_from_raw
from da3stream.estimation.da3.raw_geometry import RawGeometry, with_known_intrinsics
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import FrameGaussians
from da3stream.scene import Gaussians as SceneGaussians
from da3stream.writers.gaussian_ply import ply_rows, property_names
from tests.estimation.da3.golden import load, load_meta
from tests.scene.test_gaussians import covariances

VIEWS, HEIGHT, WIDTH = 3, 40, 64
ALL = GaussianOptions(most=10**9, coefficients=9)


def network_result(seed: int = 0) -> dict[str, Tensor]:
    """What a forward pass gives, float64: random numbers, cameras that look about."""
    random = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    poses = np.concatenate(
        [Rotation.random(VIEWS, rng=random).as_matrix(), random.normal(size=(VIEWS, 3, 1))], axis=2
    )
    raw = torch.randn(VIEWS, HEIGHT, WIDTH, 37, generator=generator).double()
    raw[..., 36] *= 0.1
    depth = 1 + torch.rand(VIEWS, HEIGHT, WIDTH, generator=generator).double()
    intrinsics = torch.tensor([[50.0, 0, 32], [0, 52, 20], [0, 0, 1]]).double().expand(VIEWS, 3, 3)
    opacity = torch.rand(VIEWS, HEIGHT, WIDTH, generator=generator).double()
    placed = gaussians_from_raw(raw, opacity, depth, torch.from_numpy(poses), intrinsics)
    return {
        "depth": depth[None],
        "extrinsics": torch.from_numpy(poses)[None],
        "intrinsics": intrinsics[None],
        **{f"gaussians.{each.name}": getattr(placed, each.name)[None] for each in fields(Gaussians)},
    }


def heard(result: dict[str, Tensor]) -> RawGeometry:
    depth = result["depth"][0].numpy().astype(np.float32)
    return RawGeometry(
        depth=depth,
        confidence=np.ones_like(depth),
        cam_from_world=result["extrinsics"][0].numpy(),
        intrinsics=result["intrinsics"][0].numpy(),
    )


def chosen(result: dict[str, Tensor], said: RawGeometry | None = None, **changes: Any) -> FrameGaussians:
    options = GaussianOptions(**{"most": ALL.most, "coefficients": 9, **changes})
    return frame_gaussians(result, said or heard(result), np.arange(7, 7 + VIEWS), options, None)


def in_network_world(result: dict[str, Tensor], row: int) -> SceneGaussians:
    """All kept Gaussians of a view as the network has them, rot_0..3 read as w x y z."""
    keep = worth_keeping(network_gaussians(result), result["depth"][0])[row]
    named = {each.name: result[f"gaussians.{each.name}"][0, row][keep].numpy() for each in fields(Gaussians)}
    return SceneGaussians(
        means=named["means"],
        log_scales=np.log(named["scales"]),
        rotations_wxyz=named["rotations"],
        harmonics=named["harmonics"],
        opacity_logits=np.log(named["opacities"] / (1 - named["opacities"])),
    )


def network_gaussians(result: dict[str, Tensor]) -> Gaussians:
    return Gaussians(**{each.name: result[f"gaussians.{each.name}"][0] for each in fields(Gaussians)})


def back_in_world(result: dict[str, Tensor], frames: FrameGaussians, row: int) -> SceneGaussians:
    world_from_cam = np.linalg.inv(np.vstack([result["extrinsics"][0, row].numpy(), [0, 0, 0, 1]]))
    pose = Sim3(rotation=world_from_cam[:3, :3], translation=world_from_cam[:3, 3])
    return frames.of_frame(row).moved(pose)


def test_with_the_predicted_cameras_they_lie_where_the_network_puts_them() -> None:
    result = network_result()
    frames = chosen(result)
    for row in range(VIEWS):
        found, expected = back_in_world(result, frames, row), in_network_world(result, row)
        partner = cKDTree(found.means).query(expected.means)[1]
        assert len(np.unique(partner)) == len(partner) == len(found)
        found = found.take(partner)
        np.testing.assert_allclose(found.means, expected.means, atol=1e-5)
        np.testing.assert_allclose(found.harmonics, expected.harmonics, atol=5e-3)
        np.testing.assert_allclose(found.opacity_logits, expected.opacity_logits, atol=1e-2)
        largest = np.abs(covariances(expected)).max(axis=(1, 2), keepdims=True)
        assert (np.abs(covariances(found) - covariances(expected)) / largest).max() < 0.02
        same = np.abs((found.rotations_wxyz * expected.rotations_wxyz).sum(axis=1))
        np.testing.assert_allclose(same, 1, atol=2e-3)


def test_those_of_the_nested_network_are_brought_to_its_metres() -> None:
    result = network_result()
    plain = chosen(result)
    metric = {**result, "depth": 2.5 * result["depth"], "scale_factor": torch.tensor([2.5])}
    metric["extrinsics"] = result["extrinsics"].clone()
    metric["extrinsics"][..., 3] *= 2.5
    found = chosen(metric)
    np.testing.assert_allclose(found.gaussians.means, 2.5 * plain.gaussians.means, rtol=1e-4, atol=1e-5)
    larger = found.gaussians.log_scales.astype(float) - plain.gaussians.log_scales
    np.testing.assert_allclose(larger, np.log(2.5), atol=0.01)


def test_known_intrinsics_move_them_with_the_points_of_the_depth_map() -> None:
    """Seen through the new intrinsics each lies on its old pixel, as far away as the depth now says."""
    result = network_result()
    given = np.array([[70.0, 0, 30], [0, 70, 22], [0, 0, 1]])
    said = with_known_intrinsics(heard(result), np.tile(given, (VIEWS, 1, 1)))
    before, after = chosen(result).gaussians.means, chosen(result, said).gaussians.means
    old = before @ result["intrinsics"][0, 0].numpy().T
    new = after @ given.T
    np.testing.assert_allclose(new[:, :2] / new[:, 2:], old[:, :2] / old[:, 2:], atol=1e-3)
    ratio = np.sqrt(70 * 70 / (50 * 52))
    np.testing.assert_allclose(after[:, 2], ratio * before[:, 2], rtol=1e-4)


def test_border_and_far_pixels_are_left_out() -> None:
    result = network_result()
    keep = worth_keeping(network_gaussians(result), result["depth"][0])
    depth = result["depth"][0]
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inside[1:-1, 2:-2] = True
    for view in range(VIEWS):
        near = depth[view] <= torch.quantile(depth[view], 0.9)
        assert torch.equal(keep[view], near & inside)


def test_what_is_no_gaussian_is_left_out() -> None:
    result = network_result()
    everything = worth_keeping(network_gaussians(result), result["depth"][0])
    row, column = everything[1].nonzero()[0].tolist()
    for name, value in (("scales", -1.0), ("scales", 0.0), ("means", float("nan")), ("harmonics", 1e9)):
        spoilt = {key: tensor.clone() for key, tensor in result.items()}
        spoilt[f"gaussians.{name}"][0, 1, row, column] = value
        keep = worth_keeping(network_gaussians(spoilt), result["depth"][0])
        assert not keep[1, row, column]
        assert keep.sum() == everything.sum() - 1


def test_a_frame_without_confidence_has_none() -> None:
    result = network_result()
    said = heard(result)
    said.confidence[1] = 0
    assert (chosen(result, said).counts > 0).tolist() == [True, False, True]


def test_a_frame_has_its_part_of_what_a_run_of_this_length_may_have() -> None:
    """The last index is 9: the run has ten frames or more."""
    assert chosen(network_result(), most=1000).counts.tolist() == [100, 100, 100]
    assert chosen(network_result(), most=1001).counts.tolist() == [101, 101, 101]


def test_fewer_are_the_first_of_more_and_opaque_ones_come_early() -> None:
    result = network_result()
    some, more = chosen(result, most=2000), chosen(result)
    for row in range(VIEWS):
        assert np.array_equal(some.of_frame(row).means, more.of_frame(row, most=200).means)
    early = np.concatenate([more.of_frame(row, 400).opacity_logits for row in range(VIEWS)])
    late = np.concatenate([more.of_frame(row).opacity_logits[-400:] for row in range(VIEWS)])
    assert np.median(early) > 0.5 > 0 > np.median(late)


@pytest.mark.data
@pytest.mark.parametrize("case", ["export", "every2"])
def test_published_table(shared: Path, case: str) -> None:
    """The choice and the columns of the published export, of views where they are."""
    path = shared / "da3" / "fixtures" / "gs_ply.npz"
    golden, meta = load(path), load_meta(path)[case]
    views = slice(None, None, meta["args"]["gs_views_interval"])
    depth = golden["depth"]
    network = Gaussians(
        **{each.name: golden[each.name].unflatten(0, depth.shape)[views] for each in fields(Gaussians)}
    )
    rows = golden_rows(network, worth_keeping(network, depth[views]), coefficients=1)
    assert list(property_names(1)) == meta["fields"]
    assert len(rows) == meta["count"]
    np.testing.assert_allclose(rows, golden[f"ply.{case}"].numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.data
def test_published_table_with_all_colours(shared: Path) -> None:
    """That one is of all pixels, normalised, so that positions and sizes are others."""
    path = shared / "da3" / "fixtures" / "gs_ply.npz"
    golden, meta = load(path), load_meta(path)["fullsh"]
    network = Gaussians(**{each.name: golden[each.name] for each in fields(Gaussians)})
    rows = golden_rows(network, torch.ones(meta["count"], dtype=torch.bool), coefficients=9)
    names = property_names(9)
    assert list(names) == meta["fields"]
    alike = [number for number, name in enumerate(names) if name[0] in "nfor"]
    assert len(alike) == 3 + 27 + 1 + 4
    np.testing.assert_allclose(
        rows[:: meta["row_stride"], alike], golden["ply.fullsh"].numpy()[:, alike], rtol=1e-6, atol=1e-7
    )


def golden_rows(network: Gaussians, keep: Tensor, coefficients: int) -> NDArray[np.float32]:
    return ply_rows(
        SceneGaussians(
            means=network.means[keep].numpy(),
            log_scales=network.scales[keep].log().numpy(),
            rotations_wxyz=network.rotations[keep].numpy(),
            harmonics=network.harmonics[keep][..., :coefficients].numpy(),
            opacity_logits=network.opacities[keep].logit(eps=1e-6).numpy(),
        )
    )
