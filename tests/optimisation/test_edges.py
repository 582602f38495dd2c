"""Residuals and derivatives of the edges; normal equations; what the placement along the tree predicts."""

from __future__ import annotations

import numpy as np
import pytest

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation.edges import EdgeTable, stack, take, tree_edges
from da3stream.optimisation.normal_equations import NormalEquations, linearise
from da3stream.optimisation.placement import place_along, squared_innovations
from da3stream.scene import PoseGraph, SubmapEdge
from da3stream.scene.pose_graph import EdgeKind


def random_graph(rng: np.random.Generator, nodes: int, extra: int) -> PoseGraph:
    """A chain and some more edges, of random transforms and informations that are not diagonal."""
    pairs = [(i - 1, i) for i in range(1, nodes)]
    pairs += [tuple(sorted(rng.choice(nodes, 2, replace=False).tolist())) for _ in range(extra)]
    edges = []
    for a, b in pairs:
        root = rng.normal(size=(7, 7))
        edges.append(
            SubmapEdge(a=a, b=b, a_from_b=Sim3.exp(0.6 * rng.normal(size=7)), information=root @ root.T)
        )
    return PoseGraph(nodes=nodes, edges=tuple(edges))


def random_poses(rng: np.random.Generator, nodes: int) -> Sim3:
    return Sim3.exp(0.6 * rng.normal(size=(nodes, 7)))


def perturbed(world_from: Sim3, node: int, delta: np.ndarray) -> Sim3:
    tangents = np.zeros((len(world_from.scale), 7))
    tangents[node] = delta
    return world_from @ Sim3.exp(tangents)


def test_a_residual_is_the_right_perturbation_of_the_measurement() -> None:
    rng = np.random.default_rng(0)
    world_from, error = random_poses(rng, 2), 0.3 * rng.normal(size=7)
    first, second = take(world_from, slice(0, 1)), take(world_from, slice(1, 2))
    measured = first.inverse() @ second @ Sim3.exp(-error[None])
    edge = SubmapEdge(
        a=0,
        b=1,
        a_from_b=Sim3(
            scale=measured.scale[0], rotation=measured.rotation[0], translation=measured.translation[0]
        ),
        information=np.eye(7),
    )
    table = EdgeTable.of(PoseGraph(nodes=2, edges=(edge,)))
    np.testing.assert_allclose(table.residuals(world_from)[0], error, atol=1e-12)


def test_jacobians_are_the_derivatives_of_the_residuals() -> None:
    rng = np.random.default_rng(1)
    table = EdgeTable.of(random_graph(rng, 4, 3))
    world_from = random_poses(rng, 4)
    by_a, by_b = table.jacobians(world_from, table.residuals(world_from))
    for edge in range(len(table)):
        for node, found in ((table.a[edge], by_a[edge]), (table.b[edge], by_b[edge])):
            for axis in range(7):
                delta = 1e-5 * np.eye(7)[axis]
                ahead = table.residuals(perturbed(world_from, node, delta))[edge]
                behind = table.residuals(perturbed(world_from, node, -delta))[edge]
                np.testing.assert_allclose(found[:, axis], (ahead - behind) / 2e-5, atol=1e-6)


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_the_sparse_solution_is_the_dense_one(damping: float) -> None:
    rng = np.random.default_rng(2)
    table = EdgeTable.of(random_graph(rng, 6, 5))
    world_from, weights = random_poses(rng, 6), rng.uniform(0.1, 1, len(table))
    residuals = table.residuals(world_from)
    by_a, by_b = table.jacobians(world_from, residuals)
    jacobian = np.zeros((len(table), 7, 6, 7))
    for edge in range(len(table)):
        jacobian[edge, :, table.a[edge]] += by_a[edge]
        jacobian[edge, :, table.b[edge]] += by_b[edge]
    jacobian = jacobian[:, :, 1:].reshape(len(table), 7, 35)
    information = table.information * weights[:, None, None]
    hessian = np.einsum("eix,eij,ejy->xy", jacobian, information, jacobian)
    gradient = np.einsum("eix,eij,ej->x", jacobian, information, residuals)
    want = -np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
    system = linearise(table, by_a, by_b, residuals, weights)
    (found,) = NormalEquations(table).solve(system, damping, -system.gradient[None])
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_allclose(found[1:].reshape(-1), want, rtol=1e-8, atol=1e-10)


def test_a_node_is_placed_by_overlap_before_anything_more_informative() -> None:
    def edge(a: int, b: int, kind: str, information: float) -> SubmapEdge:
        return SubmapEdge(
            a=a,
            b=b,
            a_from_b=Sim3.identity(),
            information=information * np.eye(7),
            kind=kind,  # type: ignore[arg-type]
        )

    edges = (
        edge(0, 1, "overlap", 1.0),
        edge(0, 2, "loop", 1e6),
        edge(1, 2, "overlap", 1.0),
        edge(0, 2, "overlap", 2.0),
        edge(1, 3, "loop", 1.0),
        edge(0, 3, "coarse", 0.1),
    )
    graph = PoseGraph(nodes=4, edges=edges)
    np.testing.assert_array_equal(tree_edges(EdgeTable.of(graph), graph.edges), [0, 3, 5])


def test_a_loop_hangs_on_another_loop_only_if_on_nothing_else() -> None:
    """The other one may be wrong, and would take it along."""

    def edge(a: int, b: int, kind: EdgeKind, certainty: float) -> SubmapEdge:
        return SubmapEdge(a=a, b=b, a_from_b=Sim3.identity(), information=certainty * np.eye(7), kind=kind)

    edges = (
        edge(0, 1, "overlap", 1),
        edge(0, 2, "loop", 1),  # node 2 is a loop, and so are 3 and 4
        edge(1, 3, "loop", 1),
        edge(2, 3, "loop", 9),
        edge(2, 4, "loop", 9),
        edge(1, 5, "overlap", 1),
        edge(2, 5, "loop", 9),  # a fine submap that was there when loop 2 was closed
        edge(5, 6, "loop", 2),
        edge(1, 6, "loop", 1),
    )
    graph = PoseGraph(nodes=7, edges=edges)
    assert tree_edges(EdgeTable.of(graph), edges).tolist() == [0, 1, 2, 4, 5, 7]


def test_innovations_have_the_distribution_that_the_covariances_promise() -> None:
    """Mean of chi^2 with 7 degrees of freedom, over many draws of a tree with two branches."""
    rng = np.random.default_rng(3)
    truth = [Sim3.identity(), *(Sim3.exp(0.5 * rng.normal(size=7)) for _ in range(5))]
    sigma = np.array([0.002, 0.003, 0.001, 0.01, 0.02, 0.01, 0.003])
    pairs = [(0, 1), (1, 2), (2, 3), (1, 4), (4, 5), (3, 5), (0, 3)]
    squared = []
    for _ in range(400):
        edges = tuple(
            SubmapEdge(
                a=a,
                b=b,
                a_from_b=truth[a].inverse() @ truth[b] @ Sim3.exp(sigma * rng.normal(size=7)),
                information=np.diag(sigma**-2),
            )
            for a, b in pairs
        )
        table = EdgeTable.of(PoseGraph(nodes=6, edges=edges))
        squared.append(squared_innovations(table, np.arange(5), place_along(edges[:5], truth[:1])))
    np.testing.assert_allclose(np.mean(squared, axis=0)[5:], 7.0, rtol=0.12)
    np.testing.assert_allclose(np.array(squared)[:, :5], 0.0, atol=1e-9)


def test_further_nodes_are_placed_behind_those_that_are_given() -> None:
    rng = np.random.default_rng(4)
    given = [Sim3.exp(rng.normal(size=7)) for _ in range(2)]
    tree = [
        SubmapEdge(a=k, b=k + 1, a_from_b=Sim3.exp(rng.normal(size=7)), information=np.eye(7)) for k in (0, 1)
    ]
    placed = place_along(tree, given)
    want = stack([*given, given[1] @ tree[1].a_from_b])
    np.testing.assert_allclose(placed.matrix(), want.matrix())
