from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from da3stream.writers.image_choice import evenly_along_path


def along_x(positions: np.ndarray) -> np.ndarray:
    return np.stack([positions, 0 * positions, 0 * positions], axis=-1)


@given(
    centres=st.integers(0, 40).flatmap(
        lambda n: arrays(np.float64, (n, 3), elements=st.floats(-1e6, 1e6, width=32))
    ),
    count=st.integers(0, 50),
)
def test_it_chooses_ascending_rows_and_never_too_many(centres, count):
    chosen = evenly_along_path(centres, count)
    assert len(chosen) <= count
    assert (np.diff(chosen) > 0).all()
    if len(chosen):
        assert chosen[0] >= 0
        assert chosen[-1] < len(centres)


@given(n=st.integers(0, 50))
def test_all_are_taken_if_they_are_few_enough(n):
    centres = np.random.default_rng(n).normal(size=(n, 3))
    assert evenly_along_path(centres, n).tolist() == list(range(n))


@given(n=st.integers(2, 200), count=st.integers(2, 200))
def test_a_steady_camera_is_sampled_evenly_with_both_ends(n, count):
    chosen = evenly_along_path(along_x(np.arange(n, dtype=float)), count)
    assert len(chosen) == min(n, count)
    assert (chosen[0], chosen[-1]) == (0, n - 1)
    gaps = np.diff(chosen)
    assert gaps.max() - gaps.min() <= 1


def test_distance_counts_and_not_time():
    # 900 frames for the first metre, 100 frames for the other 99.
    positions = np.concatenate([np.linspace(0, 1, 900), np.linspace(1, 100, 101)[1:]])
    chosen = evenly_along_path(along_x(positions), 51)
    assert len(chosen) == 51
    assert np.count_nonzero(chosen < 900) <= 2
    assert np.abs(positions[chosen] - np.linspace(0, 100, 51)).max() <= 0.5


def test_a_way_there_and_back_counts_twice():
    positions = np.concatenate([np.linspace(0, 10, 101), np.linspace(10, 0, 101)[1:]])
    chosen = evenly_along_path(along_x(positions), 5)
    assert np.allclose(positions[chosen], [0, 5, 10, 5, 0])


def test_standing_still_falls_back_to_even_indices():
    chosen = evenly_along_path(np.ones((100, 3)), 12)
    assert len(chosen) == 12
    assert (chosen[0], chosen[-1]) == (0, 99)
    assert set(np.diff(chosen)) == {9}


@pytest.mark.parametrize(("count", "expected"), [(0, []), (1, [0])])
def test_none_and_one(count, expected):
    assert evenly_along_path(along_x(np.arange(9.0)), count).tolist() == expected
