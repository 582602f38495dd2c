"""Edges between submaps whose true Sim(3) is known: exact, disturbed, and with too little in common."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from da3stream.alignment import align_submaps
from da3stream.geometry import rigid3
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import Submap, SubmapEdge


@pytest.fixture
def truth(a_from_world: Sim3, b_from_world: Sim3) -> Sim3:
    return a_from_world @ b_from_world.inverse()


@pytest.fixture
def pair(world: Any, a_from_world: Sim3, b_from_world: Sim3) -> Any:
    """Builds two submaps that share the frames 6 .. 11."""

    def make(frames_b: range = range(6, 18), **options: Any) -> tuple[Submap, Submap]:
        a = world.submap(0, range(12), a_from_world, **options)
        return a, world.submap(1, frames_b, b_from_world, **options)

    return make


def error_of(edge: SubmapEdge, truth: Sim3) -> np.ndarray:
    return np.abs((truth.inverse() @ edge.a_from_b).log())


def assert_usable(edge: SubmapEdge) -> None:
    """What the pose graph and the journal need: finite, positive definite, plain JSON."""
    assert np.isfinite(edge.information).all()
    assert np.linalg.eigvalsh(edge.information).min() > 0
    assert json.loads(json.dumps(dict(edge.evidence), allow_nan=False)) == dict(edge.evidence)


def confidences(edge: SubmapEdge) -> float:
    return float(np.linalg.slogdet(edge.information)[1])


def test_exact_submaps_give_the_exact_edge(pair: Any, truth: Sim3) -> None:
    edge = align_submaps(*pair())
    assert (edge.a, edge.b, edge.kind) == (0, 1, "overlap")
    assert error_of(edge, truth).max() < 1e-5
    assert edge.evidence["method"] == "points"
    assert edge.evidence["frames"] == [6, 7, 8, 9, 10, 11]
    assert edge.evidence["inlier_ratio"] == 1.0
    assert_usable(edge)


def test_depth_ratios_are_those_of_the_scales(pair: Any, truth: Sim3) -> None:
    edge = align_submaps(*pair())
    np.testing.assert_allclose(edge.evidence["depth_ratios"], np.full(6, truth.scale), rtol=1e-5)


def test_depth_ratios_follow_a_frame_whose_depth_is_off(pair: Any, truth: Sim3) -> None:
    a, b = pair()
    depth = b.depth.copy()
    depth[2] *= 1.25
    ratios = np.array(align_submaps(a, replace(b, depth=depth)).evidence["depth_ratios"])
    np.testing.assert_allclose(ratios / truth.scale, [1, 1, 1 / 1.25, 1, 1, 1], rtol=1e-5)


def test_noise_averages_out_and_is_reported(pair: Any, truth: Sim3) -> None:
    edge = align_submaps(*pair(noise=0.03))
    error = error_of(edge, truth)
    assert error[:3].max() < 3e-3
    assert error[6] < 3e-3
    assert edge.evidence["method"] == "points"
    assert 0.01 < edge.evidence["relative_residual"] < 0.1
    assert_usable(edge)


def test_more_noise_means_less_information(pair: Any) -> None:
    calm, loud = align_submaps(*pair(noise=0.01)), align_submaps(*pair(noise=0.05))
    assert confidences(calm) > confidences(loud) + 7 * np.log(10)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_outliers_do_not_pull(pair: Any, truth: Sim3, share: float) -> None:
    a, b = pair(noise=0.01)
    rng = np.random.default_rng(1)
    depth = b.depth.copy()
    wrong = rng.random(depth.shape) < share
    depth[wrong] *= rng.uniform(1.5, 4, wrong.sum())
    error = error_of(align_submaps(a, replace(b, depth=depth)), truth)
    assert error[:3].max() < 5e-3
    assert error[6] < 0.01


def test_confidence_tells_good_depth_from_bad(pair: Any, truth: Sim3) -> None:
    """Two thirds of the pixels are wrong in the same way, but nobody trusts them."""
    a, b = pair()
    depth, confidence = b.depth.copy(), b.confidence.copy()
    depth[:, :12] *= 1.5
    confidence[:, :12] = 1e-4
    assert error_of(align_submaps(a, replace(b, depth=depth, confidence=confidence)), truth)[6] < 1e-3


@pytest.mark.parametrize("sides", ["a", "b", "ab"])
def test_sky_is_left_out(pair: Any, truth: Sim3, sides: str) -> None:
    """Most of the image is sky of senseless depth; it must not even count as points."""
    submaps = list(pair())
    for side in sides:
        submap = submaps["ab".index(side)]
        sky = np.zeros(submap.depth.shape, dtype=bool)
        sky[:, :13] = True
        submaps["ab".index(side)] = replace(
            submap, depth=np.where(sky, np.float32(1e3), submap.depth), sky=sky
        )
    edge = align_submaps(*submaps)
    assert error_of(edge, truth).max() < 1e-5
    assert edge.evidence["points"] == 6 * 5 * 24


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_unusable_depth_is_left_out_whatever_its_confidence(pair: Any, truth: Sim3, bad: float) -> None:
    a, b = pair()
    depth = a.depth.copy()
    depth[:, ::2] = bad
    edge = align_submaps(replace(a, depth=depth), b)
    assert error_of(edge, truth).max() < 1e-5
    assert edge.evidence["points"] == 6 * 9 * 24


@pytest.mark.parametrize("lost", ["confidence", "depth"])
@pytest.mark.parametrize("side", [0, 1])
def test_without_usable_pixels_the_poses_make_the_edge(pair: Any, truth: Sim3, lost: str, side: int) -> None:
    submaps = list(pair())
    submaps[side] = replace(submaps[side], **{lost: np.zeros_like(submaps[side].depth)})
    edge = align_submaps(*submaps)
    assert (edge.evidence["method"], edge.evidence["points"]) == ("poses", 0)
    assert error_of(edge, truth).max() < 1e-5
    np.testing.assert_allclose(edge.evidence["depth_ratios"], np.full(6, truth.scale), rtol=1e-5)
    assert_usable(edge)


def test_mostly_empty_depth_maps_leave_a_usable_edge(pair: Any) -> None:
    """The median depth of such maps is zero, which is no unit of length."""
    a, b = pair()
    depth = np.zeros_like(b.depth)
    depth[:, 0, :10] = b.depth[:, 0, :10]
    edge = align_submaps(a, replace(b, depth=depth))
    assert edge.evidence["method"] == "poses"
    assert_usable(edge)


def test_depth_of_another_size_has_no_common_pixels(pair: Any, truth: Sim3) -> None:
    a, b = pair()
    smaller = replace(b, depth=b.depth[:, ::2, ::2], confidence=b.confidence[:, ::2, ::2])
    edge = align_submaps(a, smaller)
    assert edge.evidence["method"] == "poses"
    assert error_of(edge, truth).max() < 1e-5
    assert_usable(edge)


def test_unrelated_depth_falls_back_to_poses(pair: Any, truth: Sim3) -> None:
    a, b = pair()
    rng = np.random.default_rng(2)
    nonsense = np.exp(rng.uniform(-6, 6, b.depth.shape)).astype(np.float32)
    edge = align_submaps(a, replace(b, depth=nonsense))
    assert edge.evidence["method"] == "poses"
    assert np.abs((truth.inverse() @ edge.a_from_b).log())[:3].max() < 1e-6
    assert_usable(edge)


def test_an_edge_from_poses_claims_less_than_one_from_points(pair: Any) -> None:
    a, b = pair(noise=0.05)
    weak = align_submaps(a, replace(b, confidence=np.zeros_like(b.confidence)))
    assert confidences(weak) < confidences(align_submaps(a, b))


def test_one_shared_frame_suffices(pair: Any, truth: Sim3) -> None:
    edge = align_submaps(*pair(range(11, 23)))
    assert edge.evidence["frames"] == [11]
    assert error_of(edge, truth).max() < 1e-4
    assert_usable(edge)


def test_one_shared_frame_without_depth_still_turns_and_moves(pair: Any, truth: Sim3) -> None:
    """No baseline tells the scale; rotation and the camera centre are met all the same."""
    a, b = pair(range(11, 23))
    edge = align_submaps(a, replace(b, confidence=np.zeros_like(b.confidence)))
    np.testing.assert_allclose(edge.a_from_b.rotation, truth.rotation, atol=1e-9)
    pose_a = rigid3.invert(rigid3.to_4x4(a.cam_from_submap[-1]))
    pose_b = rigid3.invert(rigid3.to_4x4(b.cam_from_submap[0]))
    np.testing.assert_allclose(edge.a_from_b.move_pose(pose_b), pose_a, atol=1e-9)
    assert_usable(edge)


def test_no_shared_frame_is_refused(pair: Any) -> None:
    with pytest.raises(ValueError, match="submaps 0 and 1 share no frame"):
        align_submaps(*pair(range(12, 24)))


@pytest.mark.parametrize("factor", [1e-3, 1e3, 1e-6])
@pytest.mark.parametrize("side", [0, 1])
def test_the_unit_of_a_submap_changes_nothing_but_the_scale(pair: Any, factor: float, side: int) -> None:
    before = align_submaps(*pair(noise=0.02, pose_noise=1e-3))
    submaps = list(pair(noise=0.02, pose_noise=1e-3))
    cam_from_submap = submaps[side].cam_from_submap.copy()
    cam_from_submap[..., 3] *= factor
    depth = (submaps[side].depth * np.float32(factor)).astype(np.float32)
    submaps[side] = replace(submaps[side], depth=depth, cam_from_submap=cam_from_submap)
    after = align_submaps(*submaps)

    expected = factor if side == 0 else 1 / factor
    assert float(after.a_from_b.scale / before.a_from_b.scale) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(after.a_from_b.rotation, before.a_from_b.rotation, atol=1e-5)
    for name in ("method", "points", "frames", "iterations"):
        assert after.evidence[name] == before.evidence[name]
    assert after.evidence["inlier_ratio"] == pytest.approx(before.evidence["inlier_ratio"], abs=1e-3)
    assert after.evidence["relative_residual"] == pytest.approx(
        before.evidence["relative_residual"], rel=1e-3
    )
    ratios = np.array(after.evidence["depth_ratios"]) / before.evidence["depth_ratios"]
    np.testing.assert_allclose(ratios, np.full(6, expected), rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_the_unit_of_confidence_changes_nothing(pair: Any, factor: float) -> None:
    a, b = pair(noise=0.02)
    before = align_submaps(a, b)
    after = align_submaps(a, replace(b, confidence=b.confidence * np.float32(factor)))
    np.testing.assert_allclose(after.a_from_b.matrix(), before.a_from_b.matrix(), rtol=1e-5)
    np.testing.assert_allclose(
        after.information, before.information, rtol=1e-4, atol=1e-6 * before.information.max()
    )


def test_nothing_is_written_to_the_arguments(pair: Any) -> None:
    submaps = pair(noise=0.02)
    sky = np.zeros(submaps[0].depth.shape, dtype=bool)
    sky[:, :3] = True
    submaps = [replace(submap, sky=sky) for submap in submaps]
    names = ("depth", "confidence", "cam_from_submap", "intrinsics", "sky")
    before = [{name: getattr(submap, name).copy() for name in names} for submap in submaps]
    align_submaps(*submaps)
    for submap, copies in zip(submaps, before, strict=True):
        for name, copy in copies.items():
            np.testing.assert_array_equal(getattr(submap, name), copy)


def test_the_same_submaps_give_the_same_bits(pair: Any) -> None:
    first, second = (align_submaps(*pair(noise=0.03)) for _ in range(2))
    np.testing.assert_array_equal(first.a_from_b.matrix(), second.a_from_b.matrix())
    np.testing.assert_array_equal(first.information, second.information)
    assert first.evidence == second.evidence
