"""Rotation of spherical harmonics against their definition, and against the network's own."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from da3stream.estimation.da3.spherical_harmonics import rotate_harmonics
from da3stream.geometry.spherical_harmonics import harmonics_turn
from tests.geometry.harmonics import colours_along

LAW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


@LAW
@given(SEEDS)
def test_turned_coefficients_say_what_was_said_along_the_direction_turned_back(seed: int) -> None:
    random = np.random.default_rng(seed)
    turn = Rotation.random(rng=random).as_matrix()
    coefficients, directions = random.normal(size=9), random.normal(size=(20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    in_target = colours_along(harmonics_turn(turn) @ coefficients, directions)
    np.testing.assert_allclose(in_target, colours_along(coefficients, directions @ turn), atol=1e-12)


@LAW
@given(SEEDS)
def test_turns_follow_each_other_and_keep_lengths(seed: int) -> None:
    first, second = Rotation.random(2, rng=np.random.default_rng(seed)).as_matrix()
    both = harmonics_turn(second) @ harmonics_turn(first)
    np.testing.assert_allclose(harmonics_turn(second @ first), both, atol=1e-12)
    np.testing.assert_allclose(both @ both.T, np.eye(9), atol=1e-12)


def test_the_network_turns_colours_alike() -> None:
    random = np.random.default_rng(0)
    turn, coefficients = Rotation.random(rng=random).as_matrix(), random.normal(size=(4, 3, 9))
    theirs = rotate_harmonics(torch.from_numpy(coefficients), torch.from_numpy(turn)).numpy()
    np.testing.assert_allclose(coefficients @ harmonics_turn(turn).T, theirs, atol=1e-12)
