"""What the run itself says of how much its submaps bend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from da3stream.geometry import rigid3
from da3stream.geometry.registration import umeyama
from da3stream.optimisation.distortion import (
    TYPICAL_JITTER,
    TYPICAL_RATIO,
    Distortion,
    estimate,
    honest_edges,
    pose_uncertainties,
)
from da3stream.synthetic.bent_submaps import EXACT, Bending
from tests.optimisation.captures import DEPTH_M, drive, rms, with_garbage


@pytest.mark.parametrize("size", [0.5, 1.0, 3.0])
def test_jitter_is_measured(size: float) -> None:
    jitter = size * np.array([4e-4, 6e-4, 8e-3])
    capture = drive(0, bending=Bending(drift=np.zeros(3), jitter=jitter), fine=40)
    found = estimate(capture.submaps, capture.edges)
    assert found.estimated
    np.testing.assert_allclose(found.jitter, jitter, rtol=0.25)


@pytest.mark.parametrize("size", [1.0, 4.0])
def test_drift_grows_with_the_bends(size: float) -> None:
    usual = np.array([0.006, 0.006, 0.015])
    captures = [drive(1, bending=Bending(drift=f * usual, jitter=np.zeros(3)), fine=40) for f in (1.0, size)]
    one, other = (estimate(capture.submaps, capture.edges) for capture in captures)
    np.testing.assert_allclose(other.drift / one.drift, size, rtol=0.2)
    # Half a period of a sine over 20 rows: its slope is of the order of its height over 10 rows.
    np.testing.assert_array_less(usual / 40, one.drift[[0, 1, 2]])
    np.testing.assert_array_less(one.drift, usual)


def test_chunks_of_wider_spacing_are_found_to_be_noisier() -> None:
    """Coarse chunks err twice as much; chunks of two places as much as fine ones."""
    loops = [(first, first + 200) for first in range(0, 180, 8)]
    bending = Bending(drift=np.zeros(3))
    capture = drive(2, bending=bending, fine=40, coarse=8, loops=loops)
    noise = estimate(capture.submaps, capture.edges).noise
    chunks = [submap.chunk for submap in capture.submaps]
    assert {noise[c.index] for c in chunks if c.new} == {1.0}
    (coarse,) = {noise[c.index] for c in chunks if c.scale > 1}
    (loop,) = {noise[c.index] for c in chunks if c.scale == 1 and not c.new}
    assert 1.6 < coarse < 2.5
    assert 1.0 <= loop < 1.3


def test_garbage_frames_change_no_estimate_much() -> None:
    capture = drive(3, fine=20, coarse=4)
    clean = estimate(capture.submaps, capture.edges)
    edges = [with_garbage(edge, 10 * number + 5, 4.0) for number, edge in enumerate(capture.edges[:19])]
    spoilt = estimate(capture.submaps, [*edges, *capture.edges[19:]])
    np.testing.assert_allclose(spoilt.jitter, clean.jitter, rtol=0.3)
    np.testing.assert_allclose(spoilt.drift, clean.drift, rtol=0.3)
    np.testing.assert_allclose(spoilt.noise, clean.noise, rtol=0.3)


def test_too_few_edges_give_typical_values() -> None:
    capture = drive(4, fine=3)
    found = estimate(capture.submaps, capture.edges)
    assert not found.estimated
    np.testing.assert_array_equal(found.jitter, TYPICAL_JITTER)
    np.testing.assert_allclose(found.ratio, TYPICAL_RATIO)
    np.testing.assert_array_equal(found.noise, 1)


def test_a_ratio_far_from_the_typical_one_is_not_used() -> None:
    rigid = Distortion(noise=np.ones(1), jitter=np.ones(3), drift=np.zeros(3), estimated=True)
    assert (rigid.ratio > 0).all()
    soft = replace(rigid, drift=np.full(3, 1e6))
    np.testing.assert_array_less(soft.ratio, 5 * TYPICAL_RATIO)
    np.testing.assert_array_equal(replace(rigid, jitter=np.zeros(3)).ratio, TYPICAL_RATIO)


def test_exact_submaps_leave_the_information_as_it_is() -> None:
    capture = drive(5, bending=EXACT)
    exact = Distortion(
        noise=np.ones(len(capture.submaps)), jitter=np.zeros(3), drift=np.zeros(3), estimated=True
    )
    for have, want in zip(honest_edges(capture.submaps, capture.edges, exact), capture.edges, strict=True):
        scale = np.sqrt(np.outer(np.diag(want.information), np.diag(want.information)))
        np.testing.assert_allclose(have.information / scale, want.information / scale, atol=1e-9)


def test_the_covariance_grows_by_the_drift_of_both_submaps() -> None:
    """Around the middle of the shared cameras, rotation and scale by the drift over a quarter of a submap."""
    capture = drive(6)
    noise = np.ones(len(capture.submaps))
    noise[1] = 2.0
    drift = np.array([1e-3, 0.0, 2e-3])
    distortion = Distortion(noise=noise, jitter=np.ones(3), drift=drift, estimated=True)
    edge = capture.edges[0]
    (honest, *_) = honest_edges(capture.submaps, capture.edges, distortion)
    grown = np.linalg.inv(honest.information) - np.linalg.inv(edge.information)
    variance = np.square(5 * drift) * (1 + 4)
    np.testing.assert_allclose(grown[0, 0], variance[0], rtol=1e-4)
    np.testing.assert_allclose(grown[6, 6], variance[2], rtol=1e-4)
    assert np.linalg.eigvalsh(honest.information).min() > 0


def test_blind_directions_stay_blind() -> None:
    capture = drive(7)
    edge = replace(capture.edges[0], information=np.diag([1.0, 1, 1, 1, 1, 1, 0]))
    typical = estimate(capture.submaps, capture.edges)
    honest = honest_edges(capture.submaps, [edge, *capture.edges[1:]], typical)[0]
    scales = np.zeros(7)
    scales[6] = 1.0
    assert scales @ honest.information @ scales < 1e-9 * np.trace(honest.information)


@pytest.mark.parametrize("size", [0.5, 1.0, 3.0])
def test_cameras_are_as_uncertain_as_they_are_wrong(size: float) -> None:
    """Each submap is put where it fits the truth best; what remains is its cameras' error."""
    bending = Bending(drift=size * Bending().drift, jitter=size * Bending().jitter)
    capture = drive(4, bending=bending, fine=40)
    found = pose_uncertainties(capture.submaps, estimate(capture.submaps, capture.edges), float("nan"))
    turns, shifts = [], []
    for submap in capture.submaps:
        truth = capture.truth[list(submap.chunk.frames)]
        poses = rigid3.invert(rigid3.to_4x4(submap.cam_from_submap))
        mean = rigid3.nearest_rotation((truth[:, :3, :3] @ np.swapaxes(poses[:, :3, :3], 1, 2)).sum(axis=0))
        turns.append(rigid3.rotation_angle(mean @ poses[:, :3, :3] @ np.swapaxes(truth[:, :3, :3], 1, 2)))
        fit = umeyama(poses[:, :3, 3], truth[:, :3, 3])
        shifts.append(np.linalg.norm(fit.apply(poses[:, :3, 3]) - truth[:, :3, 3], axis=1) / DEPTH_M)
    for name, errors in (("turn_rad", turns), ("shift_over_depth", shifts)):
        predicted = np.sqrt(3.0) * np.median([getattr(each, name) for each in found])
        assert 1 / 3 < predicted / rms(np.concatenate(errors)) < 3, name


def test_edges_that_fit_badly_make_everything_less_certain() -> None:
    capture = drive(5, fine=6)
    distortion = estimate(capture.submaps, capture.edges)
    usual, good, bad = (
        pose_uncertainties(capture.submaps, distortion, factor)[2] for factor in (float("nan"), 0.5, 9.0)
    )
    assert good == usual
    assert bad.turn_rad == pytest.approx(3 * usual.turn_rad)
    assert bad.shift_over_depth == pytest.approx(3 * usual.shift_over_depth)
