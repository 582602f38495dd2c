"""Estimates that are combined, checked against other frames, and completed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from da3stream.estimation.classical.dense import SparseDepth
from da3stream.estimation.classical.dense.anchors import anchor_maps, median_disagreement
from da3stream.estimation.classical.dense.depth_range import HORIZON_FACTOR, DepthRange, depth_ranges
from da3stream.estimation.classical.dense.fill import FILLED_CONFIDENCE, fill, push_pull, sky_mask
from da3stream.estimation.classical.dense.fusion import combine, cross_check
from da3stream.estimation.classical.dense.maps import Estimate
from da3stream.estimation.classical.dense.views import Views

SHAPE = (24, 32)


def flat(inverse_depth: float, confidence: float) -> Estimate:
    return Estimate(
        inverse_depth=np.full(SHAPE, inverse_depth, np.float32),
        confidence=np.full(SHAPE, confidence, np.float32),
    )


def test_combine_averages_what_agrees() -> None:
    both = combine([flat(0.50, 10), flat(0.52, 10)])
    np.testing.assert_allclose(both.inverse_depth, 0.51, rtol=1e-5)
    np.testing.assert_allclose(both.confidence, 10)


def test_combine_follows_the_support_not_the_single_best() -> None:
    outvoted = combine([flat(0.5, 12), flat(0.2, 10), flat(0.2, 10)])
    np.testing.assert_allclose(outvoted.inverse_depth, 0.2, rtol=1e-5)


def test_combine_ignores_what_knows_nothing() -> None:
    combined = combine([flat(0.9, 0), flat(0.2, 5), Estimate.nothing(SHAPE[::-1])])
    np.testing.assert_allclose(combined.inverse_depth, 0.2, rtol=1e-6)
    assert combine([flat(0.9, 0), flat(0.3, 0)]).confidence.max() == 0


def row_of_views(count: int) -> Views:
    """Cameras that look ahead, 0.1 apart."""
    poses = np.zeros((count, 3, 4))
    poses[:, :, :3] = np.eye(3)
    poses[:, 0, 3] = -0.1 * np.arange(count)
    matrix = np.array([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]])
    return Views(
        grey=np.zeros((count, *SHAPE), np.uint8), intrinsics=np.stack([matrix] * count), cam_from_submap=poses
    )


def test_check_keeps_what_two_frames_confirm() -> None:
    checked = cross_check(row_of_views(4), 0, [1, 2, 3], [flat(0.5, 20)] * 4)
    inner = np.s_[:, 8:]
    np.testing.assert_allclose(checked.inverse_depth[inner], 0.5, rtol=1e-5)
    np.testing.assert_allclose(checked.confidence[inner], 20 * np.sqrt(3 / 4), rtol=1e-5)
    assert checked.confidence[:, 0].max() == 0


def test_check_drops_what_others_see_through() -> None:
    floating = cross_check(row_of_views(4), 0, [1, 2, 3], [flat(0.5, 20), *[flat(0.1, 20)] * 3])
    assert floating.confidence.max() == 0


def test_check_follows_a_frame_that_moved_forward() -> None:
    views = row_of_views(3)
    views.cam_from_submap[:, :, 3] = [[0, 0, 0], [0, 0, -0.5], [0, 0, -1.0]]
    depths = [flat(1 / z, 20) for z in (4.0, 3.5, 3.0)]
    checked = cross_check(views, 0, [1, 2], depths)
    assert (checked.confidence[6:-6, 8:-8] > 14).all()


def test_check_without_others_keeps_nothing() -> None:
    assert cross_check(row_of_views(1), 0, [], [flat(0.5, 20)]).confidence.max() == 0


NO_ANCHORS = np.zeros(SHAPE, np.float32)
EXPECTED = DepthRange(far=0.0, median=0.5, near=2.0)


def test_fill_leaves_measured_pixels_alone_and_completes_the_rest() -> None:
    rng = np.random.default_rng(2)
    measured = Estimate(
        inverse_depth=rng.uniform(0.2, 1, SHAPE).astype(np.float32),
        confidence=np.where(rng.random(SHAPE) < 0.3, 9, 0).astype(np.float32),
    )
    known = measured.confidence > 0
    filled = fill(measured, NO_ANCHORS, np.zeros(SHAPE, np.uint8), EXPECTED)
    np.testing.assert_array_equal(filled.inverse_depth[known], measured.inverse_depth[known])
    np.testing.assert_array_equal(filled.confidence[known], 9)
    np.testing.assert_allclose(filled.confidence[~known], FILLED_CONFIDENCE)
    assert filled.inverse_depth.min() >= measured.inverse_depth[known].min() - 1e-6
    assert filled.inverse_depth.max() <= measured.inverse_depth[known].max() + 1e-6


def test_fill_of_nothing_is_the_median_depth() -> None:
    filled = fill(Estimate.nothing(SHAPE[::-1]), NO_ANCHORS, np.zeros(SHAPE, np.uint8), EXPECTED)
    np.testing.assert_array_equal(filled.inverse_depth, np.float32(0.5))
    np.testing.assert_allclose(filled.confidence, FILLED_CONFIDENCE)


def test_what_lies_beyond_the_horizon_is_never_used() -> None:
    filled = fill(flat(1e-5, 8), NO_ANCHORS, np.zeros(SHAPE, np.uint8), EXPECTED)
    np.testing.assert_allclose(filled.inverse_depth, 0.5 / HORIZON_FACTOR, rtol=1e-6)
    assert filled.confidence.max() == 0


@dataclass(frozen=True, kw_only=True)
class OpenScene:
    """Textured ground below and two plain areas at the top: bright sky, and a bright wall that is near."""

    grey: np.ndarray
    measured: Estimate

    @classmethod
    def make(cls) -> OpenScene:
        grey = np.random.default_rng(4).integers(0, 120, (60, 120), dtype=np.uint8)
        inverse_depth = np.full((60, 120), 0.5, np.float32)
        confidence = np.full((60, 120), 9, np.float32)
        inverse_depth[:26, :60], inverse_depth[:26, 60:], inverse_depth[26:] = 0.1, 0.6, 0.3
        grey[:20, 5:40], confidence[:22, 3:42] = 180, 0
        grey[:20, 80:110], confidence[:22, 78:112] = 240, 0
        return cls(grey=grey, measured=Estimate(inverse_depth=inverse_depth, confidence=confidence))


def test_sky_is_plain_bright_at_the_top_and_behind_its_surroundings() -> None:
    scene = OpenScene.make()
    sky = sky_mask(scene.measured, scene.grey)
    assert sky[:16, 8:36].all()
    assert not sky[24:].any()
    assert not sky[:, 60:].any()


def test_dark_area_at_the_top_is_no_sky() -> None:
    scene = OpenScene.make()
    scene.grey[:20, 5:40] = 20
    assert not sky_mask(scene.measured, scene.grey).any()


def test_sky_goes_to_the_horizon_of_open_scenes_only() -> None:
    scene = OpenScene.make()
    nothing = np.zeros(scene.grey.shape, np.float32)
    outside = fill(scene.measured, nothing, scene.grey, EXPECTED)
    np.testing.assert_allclose(outside.inverse_depth[:16, 8:36], EXPECTED.horizon)
    assert outside.confidence[:16, 8:36].max() == 0
    inside = fill(scene.measured, nothing, scene.grey, DepthRange(far=0.05, median=0.5, near=2.0))
    np.testing.assert_allclose(inside.inverse_depth[:16, 8:36], 0.1, rtol=0.5)
    np.testing.assert_allclose(inside.confidence[:16, 8:36], FILLED_CONFIDENCE)


def test_anchors_fill_holes_and_nothing_else() -> None:
    anchor = np.zeros(SHAPE, np.float32)
    anchor[2, 3], anchor[20, 28] = 0.3, 0.8
    grey = np.zeros(SHAPE, np.uint8)
    alone = fill(Estimate.nothing(SHAPE[::-1]), anchor, grey, EXPECTED)
    assert alone.inverse_depth[2, 3] == np.float32(0.3)
    assert alone.inverse_depth[1, 1] < 0.45 < 0.65 < alone.inverse_depth[22, 30]
    np.testing.assert_allclose(alone.confidence, FILLED_CONFIDENCE)
    np.testing.assert_array_equal(fill(flat(0.5, 9), anchor, grey, EXPECTED).inverse_depth, np.float32(0.5))


def test_anchors_lie_in_the_pixels_of_their_points() -> None:
    sparse = SparseDepth(
        positions_px=(
            np.array([[0.5, 0.5], [63.9, 47.9], [33.0, 20.0], [33.5, 20.5], [99.0, 3.0], [-1.0, 3.0]]),
        ),
        depths=(np.array([2.0, 4.0, 5.0, 10.0, 1.0, 1.0]),),
    )
    (anchor,) = anchor_maps(sparse, 1, (64, 48), SHAPE[::-1])
    want = np.zeros(SHAPE, np.float32)
    want[0, 0], want[23, 31], want[10, 16] = 1 / 2, 1 / 4, 1 / 5
    np.testing.assert_allclose(anchor, want)


def test_disagreement_is_that_of_measured_pixels() -> None:
    anchor = np.zeros(SHAPE, np.float32)
    anchor[0, :3] = 0.5
    confidence = np.zeros(SHAPE, np.float32)
    confidence[0, :2] = 9
    estimate = Estimate(inverse_depth=np.full(SHAPE, 0.55, np.float32), confidence=confidence)
    assert median_disagreement([anchor], [estimate], 2.0) == pytest.approx(0.1, rel=1e-4)
    assert median_disagreement([np.zeros(SHAPE, np.float32)], [estimate], 2.0) is None


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_push_pull_keeps_known_values_and_stays_between_them(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(1, 2, (height, width)).astype(np.float32)
    known = rng.random((height, width)) < 0.2
    known.flat[rng.integers(known.size)] = True
    full = push_pull(values, known)
    np.testing.assert_allclose(full[known], values[known], rtol=1e-5)
    assert full.min() >= values[known].min() - 1e-4
    assert full.max() <= values[known].max() + 1e-4


def test_push_pull_prefers_what_is_near() -> None:
    values, known = np.full((32, 64), 1.0, np.float32), np.zeros((32, 64), bool)
    known[:, :4] = known[:, -4:] = True
    values[:, -4:] = 3.0
    full = push_pull(values, known)
    assert full[:, 8].max() < 1.6 < 2.4 < full[:, -9].min()


def points(*depths: float) -> SparseDepth:
    return SparseDepth(positions_px=(np.full((len(depths), 2), 5.0),), depths=(np.array(depths),))


def test_range_goes_beyond_the_points() -> None:
    (found,) = depth_ranges(row_of_views(1), points(*np.linspace(2, 4, 50)))
    assert found.near > 1 / 2
    assert 0 < found.far < 1 / 4
    assert found.median == pytest.approx(1 / 3, rel=0.05)


def test_range_of_an_open_scene_reaches_infinity() -> None:
    (found,) = depth_ranges(row_of_views(1), points(*np.geomspace(2, 200, 50)))
    assert found.far == 0
    assert found.horizon > 0


def test_frame_with_few_points_takes_those_of_all() -> None:
    sparse = SparseDepth(
        positions_px=(np.zeros((30, 2)), np.zeros((1, 2))), depths=(np.full(30, 2.0), np.array([90.0]))
    )
    few = depth_ranges(row_of_views(2), sparse)[1]
    assert few.median == pytest.approx(0.5)


@pytest.mark.parametrize("depths", [np.array([1.0, -1.0]), np.array([1.0, np.inf]), np.array([1.0])])
def test_sparse_depth_is_checked(depths: np.ndarray) -> None:
    with pytest.raises(ValueError, match="frame 0"):
        SparseDepth(positions_px=(np.zeros((2, 2)),), depths=(depths,))
