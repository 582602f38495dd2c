"""Gaussians that move: what a renderer would see of them is what it saw before, moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.geometry.sim3 import Sim3
from da3stream.scene import FrameGaussians, Gaussians
from tests.geometry.harmonics import colours_along

LAW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def random_gaussians(seed: int, count: int = 6, coefficients: int = 9) -> Gaussians:
    random = np.random.default_rng(seed)
    return Gaussians(
        means=random.normal(size=(count, 3)),
        log_scales=random.normal(-2, 1, (count, 3)),
        rotations_wxyz=Rotation.random(count, rng=random).as_quat(scalar_first=True),
        harmonics=random.normal(size=(count, 3, coefficients)),
        opacity_logits=random.normal(size=count),
    )


def random_sim3(seed: int) -> Sim3:
    random = np.random.default_rng([seed, 1])
    rotation = Rotation.random(rng=random).as_matrix()
    return Sim3(scale=np.exp(random.normal()), rotation=rotation, translation=random.normal(size=3))


def covariances(gaussians: Gaussians) -> NDArray[np.float64]:
    """(K, 3, 3) R S S R^T, with the rotation matrix of w x y z as renderers write it out."""
    w, x, y, z = np.asarray(gaussians.rotations_wxyz, dtype=np.float64).T
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    rotation = np.stack(rows, axis=-1).reshape(-1, 3, 3)
    axes = rotation * np.exp(np.asarray(gaussians.log_scales, dtype=np.float64))[:, None]
    return axes @ np.swapaxes(axes, 1, 2)


@LAW
@given(SEEDS)
def test_centres_and_covariances_move(seed: int) -> None:
    before, moving = random_gaussians(seed), random_sim3(seed)
    after = before.moved(moving)
    np.testing.assert_allclose(after.means, moving.apply(before.means), rtol=1e-5, atol=1e-5)
    expected = moving.scale**2 * moving.rotation @ covariances(before) @ moving.rotation.T
    largest = np.abs(expected).max(axis=(1, 2), keepdims=True)
    assert (np.abs(covariances(after) - expected) / largest).max() < 1e-5
    assert np.array_equal(after.opacity_logits, before.opacity_logits)


@LAW
@given(SEEDS)
def test_a_colour_along_a_direction_is_that_along_the_direction_turned_back(seed: int) -> None:
    before, moving = random_gaussians(seed), random_sim3(seed)
    directions = np.random.default_rng(seed).normal(size=(15, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    seen = colours_along(before.moved(moving).harmonics, directions)
    np.testing.assert_allclose(seen, colours_along(before.harmonics, directions @ moving.rotation), atol=1e-5)


def test_plain_colours_do_not_turn() -> None:
    plain = random_gaussians(0, coefficients=1)
    assert np.array_equal(plain.moved(random_sim3(0)).harmonics, plain.harmonics)


@LAW
@given(SEEDS)
def test_a_stretched_gaussian_has_the_covariance_that_the_map_makes(seed: int) -> None:
    before = random_gaussians(seed)
    linear = np.eye(3) + 0.3 * np.random.default_rng(seed).normal(size=(3, 3))
    after = before.stretched(linear)
    np.testing.assert_allclose(after.means, before.means @ linear.T, rtol=1e-5, atol=1e-5)
    expected = linear @ covariances(before) @ linear.T
    largest = np.abs(expected).max(axis=(1, 2), keepdims=True)
    assert (np.abs(covariances(after) - expected) / largest).max() < 1e-4
    np.testing.assert_allclose(np.linalg.norm(after.rotations_wxyz, axis=1), 1, atol=1e-5)


def test_half_precision_is_as_exact_as_it_says() -> None:
    exact = random_gaussians(1, count=5000)
    half = exact.compact()
    assert np.abs(np.expm1(half.log_scales.astype(float) - exact.log_scales)).max() < 0.004
    dot = np.abs((half.rotations_wxyz.astype(float) * exact.rotations_wxyz).sum(axis=1))
    length = np.linalg.norm(half.rotations_wxyz.astype(float), axis=1)
    assert np.degrees(2 * np.arccos(np.minimum(dot / length, 1))).max() < 0.06
    bright = np.abs(exact.harmonics[:, :, 0]) < 2
    error = 0.2821 * np.abs(half.harmonics[:, :, 0].astype(float) - exact.harmonics[:, :, 0])
    assert error[bright].max() < 0.1 / 255 * 1.5


def test_frames_have_their_own() -> None:
    parts = [random_gaussians(seed, count).compact() for seed, count in enumerate((3, 0, 2))]
    frames = FrameGaussians.of(parts, 9)
    for row, part in enumerate(parts):
        assert np.array_equal(frames.of_frame(row).means, part.means)
    assert np.array_equal(frames.of_frame(0, most=2).means, parts[0].means[:2])
    later = frames.after(1)
    assert later.counts.tolist() == [0, 2]
    assert np.array_equal(later.of_frame(1).harmonics, parts[2].harmonics)


def test_another_unit_scales_each_frame_by_its_own_factor() -> None:
    frames = FrameGaussians.of([random_gaussians(seed, 2).compact() for seed in range(2)], 9)
    scaled = frames.scaled(np.array([2.0, 0.5]))
    for row, factor in enumerate((2.0, 0.5)):
        before, after = covariances(frames.of_frame(row)), covariances(scaled.of_frame(row))
        np.testing.assert_allclose(after, factor**2 * before, rtol=1e-5)
        np.testing.assert_allclose(scaled.of_frame(row).means, factor * frames.of_frame(row).means)


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 or 9"):
        random_gaussians(0, coefficients=4)
    with pytest.raises(ValueError, match="6 Gaussians, expected 5"):
        FrameGaussians(counts=np.array([2, 3]), gaussians=random_gaussians(0))
