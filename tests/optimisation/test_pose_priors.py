"""Priors on poses: their frame and unit, their noise, gross errors, gaps, positions without rotations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream.errors import InputError
from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import Placement, PosePriors, place
from da3stream.scene import PlacedCameras
from da3stream.synthetic.bent_submaps import EXACT
from tests.optimisation.captures import DEPTH_M, Capture, camera_errors, drive, rms

WORLD = Sim3.exp(np.array([0.5, -0.4, 1.2, 400_000.0, -5_300_000.0, 50.0, 0.9]))
"""From the truth's frame to that of the priors: far away, turned, and of another unit."""
UNIT = float(WORLD.scale)
NOISE = 0.02 * DEPTH_M
LOOPS = [(first, first + 155) for first in range(2, 140, 7)]


@dataclass(frozen=True, kw_only=True)
class Given:
    """A capture with priors of its frames."""

    capture: Capture
    truth: np.ndarray
    priors: np.ndarray
    wrong: np.ndarray

    def place(self, every: int = 1, sigma: float | None = None) -> Placement:
        frames = np.arange(0, len(self.priors), every)
        priors = PosePriors(frames=frames, world_from_cam=self.priors[frames], sigma=sigma)
        return place(self.capture.submaps, self.capture.edges, Sim3.identity(), priors=priors)

    def error_m(self, placed: list[PlacedCameras]) -> float:
        """Root mean square distance from the truth, in its unit, without any alignment."""
        fine = [cameras for cameras in placed if cameras.chunk.new]
        off = [c.world_from_cam[:, :3, 3] - self.truth[list(c.chunk.frames), :3, 3] for c in fine]
        return rms(np.linalg.norm(np.concatenate(off), axis=1)) / UNIT


def given(
    capture: Capture, *, noise_m: float = 0.0, turn_rad: float = 0.0, wrong: float = 0.0, seed: int = 0
) -> Given:
    """Priors with noise of each coordinate; a share of them is wrong by ten depths and turned at random."""
    rng = np.random.default_rng(seed)
    truth = WORLD.move_pose(capture.truth)
    priors, n = truth.copy(), len(truth)
    priors[:, :3, 3] += UNIT * noise_m * rng.normal(size=(n, 3))
    turns = Rotation.from_rotvec(turn_rad * rng.normal(size=(n, 3))).as_matrix()
    priors[:, :3, :3] = turns @ priors[:, :3, :3]
    is_wrong = rng.random(n) < wrong
    priors[is_wrong, :3, 3] += 10 * DEPTH_M * UNIT * rng.normal(size=(int(is_wrong.sum()), 3))
    for row in np.flatnonzero(is_wrong):
        priors[row, :3, :3] = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    return Given(capture=capture, truth=truth, priors=priors, wrong=np.flatnonzero(is_wrong))


def error_without(capture: Capture) -> float:
    return rms(camera_errors(place(capture.submaps, capture.edges, Sim3.identity()).cameras, capture.truth))


def test_an_exact_map_comes_out_in_the_frame_and_unit_of_exact_priors() -> None:
    case = given(drive(0, fine=12, bending=EXACT))
    placement = case.place()
    assert case.error_m(placement.cameras) < 1e-5 * DEPTH_M
    for cameras, submap in zip(placement.cameras, case.capture.submaps, strict=True):
        np.testing.assert_allclose(cameras.depth_scale * submap.typical_depth, DEPTH_M * UNIT, rtol=1e-4)
        turns = cameras.world_from_cam[:, :3, :3] @ np.swapaxes(
            case.truth[list(cameras.chunk.frames), :3, :3], 1, 2
        )
        assert Rotation.from_matrix(turns).magnitude().max() < 1e-4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loops", [(), LOOPS])
def test_exact_priors_leave_what_submaps_err_by_themselves(seed: int, loops: list[tuple[int, int]]) -> None:
    case = given(drive(seed, fine=30, loops=loops))
    assert case.error_m(case.place().cameras) < 0.005 * DEPTH_M
    assert case.error_m(case.place().cameras) < 0.5 * error_without(case.capture)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loops", [(), LOOPS])
def test_noise_is_found_and_averaged_out(seed: int, loops: list[tuple[int, int]]) -> None:
    """Better than the priors; and in shape, with frame and unit fitted to the truth, as good as without."""
    case = given(drive(seed, fine=30, loops=loops), noise_m=NOISE, turn_rad=0.02, seed=seed)
    placement = case.place()
    error = case.error_m(placement.cameras)
    assert error < 0.4 * NOISE * np.sqrt(3)
    shape = rms(camera_errors(placement.cameras, case.truth)) / UNIT
    assert shape < 1.05 * error_without(case.capture)
    assert placement.priors is not None
    assert placement.priors.sigma == pytest.approx(NOISE * UNIT, rel=0.15)
    assert placement.priors.rotation_sigma_rad == pytest.approx(0.02, rel=0.15)
    assert placement.priors.outliers == ()


def test_how_well_the_unit_is_known_is_how_much_it_varies() -> None:
    """Over the noise; the path is 0.1 of a depth a frame long."""
    capture = drive(0, fine=6, bending=EXACT)
    logs, told = [], []
    for seed in range(24):
        case = given(capture, noise_m=0.3 * DEPTH_M, seed=seed)
        placement = case.place(sigma=0.3 * DEPTH_M * UNIT)
        logs.append(np.log(placement.cameras[0].depth_scale[0]))
        assert placement.priors is not None
        told.append(placement.priors.scale_uncertainty)
    assert np.std(logs) == pytest.approx(np.median(told), rel=0.5)
    exact = given(capture).place().priors
    assert exact is not None
    assert exact.scale_uncertainty < 0.1 * np.median(told)


@pytest.mark.parametrize("seed", range(3))
def test_one_wrong_prior_in_ten_changes_little_and_is_named(seed: int) -> None:
    capture = drive(seed, fine=30)
    right = given(capture, noise_m=NOISE, turn_rad=0.01, seed=seed)
    wrong = given(capture, noise_m=NOISE, turn_rad=0.01, wrong=0.1, seed=seed)
    placement = wrong.place()
    assert wrong.error_m(placement.cameras) < 1.3 * right.error_m(right.place().cameras)
    assert placement.priors is not None
    assert len(wrong.wrong) > 20
    assert placement.priors.outliers == tuple(wrong.wrong.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_positions_of_every_tenth_frame_are_enough(seed: int) -> None:
    """As from GPS once a second: rotations are made up, which shows, and they are not used."""
    case = given(drive(seed, fine=40), noise_m=NOISE, seed=seed)
    case.priors[:, :3, :3] = np.eye(3)
    placement = case.place(every=10)
    assert placement.priors is not None
    assert placement.priors.rotation_sigma_rad is None
    assert placement.priors.frames == 41
    assert case.error_m(placement.cameras) < min(NOISE * np.sqrt(3), error_without(case.capture))


@pytest.mark.parametrize("loops", [(), [(2, 157)], LOOPS])
def test_the_report_is_of_the_edges_between_submaps(loops: list[tuple[int, int]]) -> None:
    """Priors take the room that loops leave: how well edges fit each other does not depend on them."""
    case = given(drive(0, fine=30, loops=loops), noise_m=NOISE, turn_rad=0.02)
    free = place(case.capture.submaps, case.capture.edges, Sim3.identity()).report
    report = case.place().report
    assert len(report.weights) == len(case.capture.edges)
    assert report.cost_after == pytest.approx(report.weights @ report.mahalanobis**2, rel=1e-6)
    assert report.cost_before == pytest.approx(free.cost_before)
    assert free.cost_after < report.cost_after < 7 * len(case.capture.edges)
    assert report.iterations > free.iterations
    assert report.variance_factor == pytest.approx(free.variance_factor, nan_ok=True)


def test_priors_of_a_part_hold_that_part() -> None:
    case = given(drive(0, fine=30), noise_m=NOISE, turn_rad=0.01)
    half = PosePriors(frames=np.arange(150), world_from_cam=case.priors[:150])
    placement = place(case.capture.submaps, case.capture.edges, Sim3.identity(), priors=half)
    held = [cameras for cameras in placement.cameras if max(cameras.chunk.frames) < 150]
    assert len(held) > 10
    assert case.error_m(held) < 0.4 * NOISE * np.sqrt(3)


def test_a_sigma_that_is_given_is_used() -> None:
    """Priors that are said to be hardly better than nothing leave the map's shape as it is."""
    case = given(drive(0, fine=30, loops=LOOPS), noise_m=NOISE, turn_rad=0.0)
    loose, tight = case.place(sigma=1e3 * UNIT), case.place(sigma=NOISE * UNIT)
    assert loose.priors is not None
    assert loose.priors.sigma == 1e3 * UNIT
    assert case.error_m(tight.cameras) < case.error_m(loose.cameras)


def test_priors_that_tell_no_frame_are_refused() -> None:
    case = given(drive(0, fine=4))
    two = PosePriors(frames=np.arange(2), world_from_cam=case.priors[:2])
    with pytest.raises(InputError, match="too few frames have a prior pose; got 2; expected at least 3"):
        place(case.capture.submaps, case.capture.edges, Sim3.identity(), priors=two)
    others = PosePriors(frames=np.arange(1000, 1040), world_from_cam=case.priors[:40])
    with pytest.raises(InputError, match="got 0; expected at least 3"):
        place(case.capture.submaps, case.capture.edges, Sim3.identity(), priors=others)
    still = np.repeat(case.priors[:1], len(case.priors), axis=0)
    standing = PosePriors(frames=np.arange(len(still)), world_from_cam=still)
    with pytest.raises(InputError, match="tell no unit"):
        place(case.capture.submaps, case.capture.edges, Sim3.identity(), priors=standing)


def test_the_caller_s_priors_stay_as_they_are() -> None:
    case = given(drive(0, fine=4), noise_m=NOISE)
    before = case.priors.copy()
    case.place()
    np.testing.assert_array_equal(case.priors, before)
