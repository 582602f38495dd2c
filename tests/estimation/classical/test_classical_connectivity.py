"""Groups of images that hang together."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.estimation.classical.connectivity import (
    MIN_CUT_MATCHES,
    firmly_connected,
    minimum_cut,
    restricted,
)
from da3stream.estimation.classical.view_graph import TwoView, ViewGraph


def _graph(images, matches_of):
    unknown = np.full((3, 3), np.nan)
    views = [
        TwoView(
            matches=np.zeros((count, 2), np.int32),
            kind=2,
            fundamental=unknown,
            essential=unknown,
            homography=unknown,
        )
        for count in matches_of.values()
    ]
    return ViewGraph(
        keypoints=tuple(np.zeros((1000, 2), np.float32) for _ in range(images)),
        pairs=np.array(list(matches_of), np.int32).reshape(-1, 2),
        two_views=tuple(views),
    )


def _brute_force(weights):
    nodes = range(len(weights))
    return min(
        weights[np.ix_(side, [n for n in nodes if n not in side])].sum()
        for size in range(1, len(weights))
        for side in map(list, combinations(nodes, size))
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 7), st.integers(0, 2**32 - 1))
def test_minimum_cut_is_minimal_and_its_side_costs_that(nodes, seed):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.integers(0, 9, (nodes, nodes)) * (rng.random((nodes, nodes)) < 0.7), 1).astype(float)
    weights = upper + upper.T
    cut = minimum_cut(weights)
    assert cut.weight == _brute_force(weights)
    assert weights[np.ix_(cut.side, ~cut.side)].sum() == cut.weight
    assert 0 < cut.side.sum() < nodes


def _two_groups(crossing):
    """Images 0..3 and 4..9, each group tightly matched."""
    inside = {(a, b): 100 for a, b in combinations(range(10), 2) if (a < 4) == (b < 4)}
    return _graph(10, {**inside, **crossing})


def test_weakly_linked_group_is_left_out():
    mask = firmly_connected(_two_groups({(2, 5): 23}))
    assert mask.tolist() == [False] * 4 + [True] * 6


def test_several_weak_links_add_up():
    assert firmly_connected(_two_groups({(2, 5): 20, (3, 6): 20, (1, 7): 20})).all()


def test_weak_but_even_matches_everywhere_stay_together():
    assert firmly_connected(_graph(8, dict.fromkeys(combinations(range(8), 2), 16))).all()


def test_unmatched_image_is_left_out():
    mask = firmly_connected(_graph(5, dict.fromkeys(combinations(range(4), 2), 40)))
    assert mask.tolist() == [True] * 4 + [False]


def test_restricted_keeps_the_pairs_inside():
    graph = _two_groups({(2, 5): MIN_CUT_MATCHES - 1})
    inside = restricted(graph, firmly_connected(graph))
    assert len(inside.keypoints) == 10
    assert (inside.pairs >= 4).all()
    assert len(inside.pairs) == 15


@pytest.mark.parametrize("images", [1, 2])
def test_tiny_graphs(images):
    assert firmly_connected(_graph(images, {})).sum() == 1
