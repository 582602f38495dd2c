"""The bounded cache, and which images are matched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from da3stream.estimation.classical.memo import Memo
from da3stream.estimation.classical.view_graph import OFFSETS, candidate_pairs


def test_least_recently_used_falls_out():
    memo: Memo[str, int] = Memo()
    for value, key in enumerate("abc"):
        memo.put(key, value)
    assert memo.get("a") == 0
    memo.shrink(2)
    assert memo.get("b") is None
    assert (memo.get("a"), memo.get("c")) == (0, 2)
    assert len(memo) == 2


def test_put_replaces():
    memo: Memo[str, int] = Memo()
    memo.put("a", 1)
    memo.put("a", 2)
    assert memo.get("a") == 2
    assert len(memo) == 1


@given(st.integers(0, 80))
def test_pairs_are_ordered_distinct_and_inside(images):
    pairs = candidate_pairs(np.arange(images)).tolist()
    assert pairs == sorted(pairs)
    assert len({tuple(pair) for pair in pairs}) == len(pairs)
    assert all(0 <= first < second < images and second - first in OFFSETS for first, second in pairs)
    assert len(pairs) == sum(max(0, images - offset) for offset in OFFSETS)


@pytest.mark.parametrize("images", [0, 1])
def test_no_pairs_of_less_than_two(images):
    assert candidate_pairs(np.arange(images)).shape == (0, 2)


@pytest.mark.parametrize("later", [range(500, 512), range(511, 499, -1)])
def test_frames_of_two_places_are_matched_all_with_all(later):
    pairs = candidate_pairs(np.array([*range(12), *later])).tolist()
    across = [(first, second) for first, second in pairs if first < 12 <= second]
    assert len(across) == 12 * 12
    within = [pair for pair in pairs if pair[1] < 12]
    assert within == candidate_pairs(np.arange(12)).tolist()


def test_evenly_spaced_frames_make_no_jump():
    assert candidate_pairs(np.arange(0, 480, 8)).tolist() == candidate_pairs(np.arange(60)).tolist()
