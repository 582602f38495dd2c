"""Sim(3) on many edges: logarithm and exponential as in `Sim3`, derivatives as differences find them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import lie

LAW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
ANGLES_RAD = st.sampled_from([0.0, 1e-9, 1e-4, 0.5, 2.0, 3.0])
LOG_SCALES = st.sampled_from([0.0, 1e-10, -0.1, 2.3, -4.0, 5.0])
LENGTHS = st.sampled_from([0.0, 1e-6, 1.0, 1e4])


def tangents(seed: int, angle_rad: float, length: float, log_scale: float, count: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(count, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return np.hstack([angle_rad * axes, length * rng.normal(size=(count, 3)), np.full((count, 1), log_scale)])


@pytest.mark.parametrize("norm", [0.0, 1e-12, 0.4, 3.0, 20.0])
@pytest.mark.parametrize("size", [3, 7])
def test_phi_is_the_integral_of_the_exponential(norm: float, size: int) -> None:
    matrices = norm / size * np.random.default_rng(0).normal(size=(5, size, size))
    block = np.zeros((5, 2 * size, 2 * size))
    block[:, :size, :size], block[:, :size, size:] = matrices, np.eye(size)
    want = scipy.linalg.expm(block)[:, :size, size:]
    np.testing.assert_allclose(lie.phi(matrices), want, rtol=1e-11, atol=1e-12 * np.abs(want).max())


@LAW
@given(SEEDS, ANGLES_RAD, LENGTHS, LOG_SCALES)
def test_log_and_exp_are_those_of_sim3(seed: int, angle: float, length: float, log_scale: float) -> None:
    vectors = tangents(seed, angle, length, log_scale)
    transforms = Sim3.exp(vectors)
    unit = max(1.0, np.abs(transforms.translation).max(), length)
    np.testing.assert_allclose(lie.exp(vectors).matrix(), transforms.matrix(), rtol=1e-9, atol=1e-10 * unit)
    np.testing.assert_allclose(lie.log(transforms), transforms.log(), atol=1e-10 * unit)


@LAW
@given(SEEDS, ANGLES_RAD, LENGTHS, LOG_SCALES)
def test_the_inverse_jacobian_is_the_derivative_of_the_logarithm(
    seed: int, angle: float, length: float, log_scale: float
) -> None:
    """Within 1e-6, also at large rotations and log-scales, in units of the translation."""
    vectors = tangents(seed, angle, length, log_scale)
    transforms, unit = Sim3.exp(vectors), max(length, 1.0)
    found = lie.inverse_right_jacobian(vectors)
    units = np.array([1.0] * 3 + [unit] * 3 + [1.0])
    for axis in range(7):
        small = np.zeros((len(vectors), 7))
        small[:, axis] = 1e-5 * units[axis]
        difference = (transforms @ Sim3.exp(small)).log() - (transforms @ Sim3.exp(-small)).log()
        derivative = difference / 2e-5 / units
        np.testing.assert_allclose(found[:, :, axis] * units[axis] / units, derivative, atol=1e-6, rtol=1e-6)
