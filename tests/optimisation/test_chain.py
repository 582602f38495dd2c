"""Placing submaps: exact along a chain, through the better edge where there are two, prefix by prefix."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import place_submap, place_submaps
from da3stream.scene import PoseGraph, SubmapEdge

LAW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def random_transform(rng: np.random.Generator) -> Sim3:
    return Sim3.exp(0.5 * rng.normal(size=7))


def edge_between(a: int, b: int, a_from_b: Sim3, information: float = 1.0) -> SubmapEdge:
    return SubmapEdge(a=a, b=b, a_from_b=a_from_b, information=information * np.eye(7))


def chain(world_from: list[Sim3]) -> list[SubmapEdge]:
    """Exact edges between consecutive submaps."""
    pairs = pairwise(world_from)
    return [edge_between(i, i + 1, first.inverse() @ second) for i, (first, second) in enumerate(pairs)]


@LAW
@given(SEEDS, st.integers(1, 20))
def test_a_chain_is_composed_exactly(seed: int, nodes: int) -> None:
    rng = np.random.default_rng(seed)
    truth = [random_transform(rng) for _ in range(nodes)]
    placed = place_submaps(PoseGraph(nodes=nodes, edges=tuple(chain(truth))), truth[0])
    for have, want in zip(placed, truth, strict=True):
        np.testing.assert_allclose(have.matrix(), want.matrix(), atol=1e-9)


@LAW
@given(SEEDS, st.integers(2, 12))
def test_placing_a_prefix_gives_a_prefix(seed: int, nodes: int) -> None:
    """Later submaps and their edges move no earlier one, not even by a bit."""
    rng = np.random.default_rng(seed)
    edges = [
        edge_between(a, b, random_transform(rng), rng.uniform(0.1, 10))
        for b in range(1, nodes)
        for a in {b - 1, int(rng.integers(b))}
    ]
    first = random_transform(rng)
    everything = place_submaps(PoseGraph(nodes=nodes, edges=tuple(edges)), first)
    for stop in range(1, nodes):
        early = tuple(edge for edge in edges if edge.b < stop)
        for have, want in zip(
            place_submaps(PoseGraph(nodes=stop, edges=early), first), everything, strict=False
        ):
            np.testing.assert_array_equal(have.matrix(), want.matrix())


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_edges_the_more_informative_one_counts(order: int) -> None:
    rng = np.random.default_rng(0)
    world_from = [random_transform(rng), random_transform(rng)]
    strong, weak = (
        edge_between(0, 2, random_transform(rng), 5.0),
        edge_between(1, 2, random_transform(rng), 0.5),
    )
    placed = place_submap([strong, weak][::order], world_from)
    np.testing.assert_array_equal(placed.matrix(), (world_from[0] @ strong.a_from_b).matrix())


def test_an_edge_that_leaves_a_direction_open_loses() -> None:
    world_from = [Sim3.identity(), Sim3.identity()]
    blind = SubmapEdge(a=0, b=2, a_from_b=Sim3.identity(), information=np.diag([1e9] * 6 + [0.0]))
    whole = edge_between(1, 2, Sim3.exp(np.ones(7)), 1e-3)
    np.testing.assert_array_equal(place_submap([blind, whole], world_from).matrix(), whole.a_from_b.matrix())


def test_the_first_submap_stays_where_it_is_put() -> None:
    first = Sim3.exp(np.ones(7))
    (placed,) = place_submaps(PoseGraph(nodes=1, edges=()), first)
    np.testing.assert_array_equal(placed.matrix(), first.matrix())


def test_a_submap_without_an_edge_is_an_error() -> None:
    graph = PoseGraph(nodes=3, edges=(edge_between(0, 1, Sim3.identity()),))
    with pytest.raises(ValueError, match="submap 2 has no edge to an earlier one"):
        place_submaps(graph, Sim3.identity())
