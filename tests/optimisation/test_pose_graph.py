"""The pose graph: exact data, drift that loops undo, loops that are wrong, scale, units, poor input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from da3stream.geometry.registration import umeyama
from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import OptimisedGraph, PoseGraphOptions, optimise
from da3stream.scene import PoseGraph, SubmapEdge
from da3stream.scene.pose_graph import EdgeKind
from da3stream.synthetic.paths import street_laps
from tests.optimisation.chained import place_submaps

SIGMA = np.array([0.002] * 3 + [0.02] * 3 + [0.004])
"""Standard deviation of an edge: radians, the truth's unit, log-scale."""
ORIGIN = [Sim3.identity()]


def street(nodes: int, laps: int, rng: np.random.Generator) -> list[Sim3]:
    """Submaps along laps of a street, each in a unit of its own; the first is the world."""
    poses = street_laps(nodes, lap_frames=nodes // laps, step_m=6.0)
    poses = np.linalg.inv(poses[0]) @ poses
    scales = np.exp(0.5 * rng.normal(size=nodes) * (np.arange(nodes) > 0))
    return [
        Sim3(scale=scale, rotation=pose[:3, :3], translation=pose[:3, 3])
        for scale, pose in zip(scales, poses, strict=True)
    ]


def measured(
    truth: Sequence[Sim3],
    a: int,
    b: int,
    rng: np.random.Generator,
    *,
    kind: EdgeKind = "overlap",
    noise: float = 1.0,
    drift: np.ndarray | None = None,
) -> SubmapEdge:
    """An edge with noise of SIGMA, times `noise`, and a systematic error, in the truth's unit."""
    unit = np.array([1.0] * 3 + [1.0 / float(truth[b].scale)] * 3 + [1.0])
    error = noise * SIGMA * rng.normal(size=7) + (0 if drift is None else drift)
    return SubmapEdge(
        a=a,
        b=b,
        a_from_b=truth[a].inverse() @ truth[b] @ Sim3.exp(unit * error),
        information=np.diag(np.square(1.0 / (SIGMA * unit))),
        kind=kind,
    )


def chain(truth: Sequence[Sim3], rng: np.random.Generator, **how: object) -> list[SubmapEdge]:
    return [measured(truth, i - 1, i, rng, **how) for i in range(1, len(truth))]  # type: ignore[arg-type]


def wrong_loop(truth: Sequence[Sim3], rng: np.random.Generator) -> SubmapEdge:
    """A good measurement of two other submaps."""
    a, b = sorted(rng.choice(len(truth), 2, replace=False).tolist())
    other_a, other_b = rng.choice(len(truth), 2, replace=False)
    a_from_b = truth[other_a].inverse() @ truth[other_b]
    return replace(measured(truth, a, b, rng, kind="loop"), a_from_b=a_from_b)


def graph_of(nodes: int, *edges: Sequence[SubmapEdge]) -> PoseGraph:
    return PoseGraph(nodes=nodes, edges=tuple(edge for group in edges for edge in group))


def positions(world_from: Sequence[Sim3]) -> np.ndarray:
    return np.stack([transform.translation for transform in world_from])


def rms_error(world_from: Sequence[Sim3], truth: Sequence[Sim3]) -> float:
    """Of the submaps' origins, after alignment, in the truth's unit."""
    have, want = positions(world_from), positions(truth)
    return float(np.sqrt(np.square(umeyama(have, want).apply(have) - want).sum(axis=1).mean()))


def assert_same(have: Sequence[Sim3], want: Sequence[Sim3], tolerance: float) -> None:
    unit = max(1.0, float(np.abs(positions(want)).max()))
    for one, other in zip(have, want, strict=True):
        assert abs(np.log(one.scale / other.scale)) < tolerance
        np.testing.assert_allclose(one.rotation, other.rotation, atol=tolerance)
        np.testing.assert_allclose(one.translation, other.translation, atol=tolerance * unit)


def loop_weights(optimised: OptimisedGraph, graph: PoseGraph) -> np.ndarray:
    return optimised.report.weights[[edge.kind == "loop" for edge in graph.edges]]


def test_without_loops_the_chain_stays_as_it_is_placed() -> None:
    rng = np.random.default_rng(0)
    truth = street(60, 2, rng)
    graph = graph_of(60, chain(truth, rng))
    first = Sim3.exp(np.ones(7))
    optimised = optimise(graph, [first])
    assert_same(optimised.world_from, place_submaps(graph, first), 1e-9)
    assert optimised.report.converged
    assert np.isnan(optimised.report.variance_factor)


@pytest.mark.parametrize("seed", range(3))
def test_exact_edges_give_the_truth_from_any_start(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = street(40, 2, rng)
    loops = [measured(truth, i, i + 20, rng, kind="loop", noise=0) for i in (0, 7, 15)]
    graph = graph_of(40, chain(truth, rng, noise=0), loops)
    start = [truth[0], *(t @ Sim3.exp(0.3 * rng.normal(size=7)) for t in truth[1:])]
    optimised = optimise(graph, start)
    assert_same(optimised.world_from, truth, 1e-6)
    assert optimised.report.cost_after < 1e-6 < optimised.report.cost_before
    np.testing.assert_array_equal(optimised.report.weights, 1)


def test_loops_undo_the_drift_and_the_report_says_so() -> None:
    rng = np.random.default_rng(1)
    truth = street(200, 2, rng)
    loops = [measured(truth, i, i + 100, rng, kind="loop") for i in range(0, 100, 5)]
    graph = graph_of(200, chain(truth, rng), loops)
    optimised = optimise(graph, ORIGIN)
    before = place_submaps(graph_of(200, graph.edges[:199]), ORIGIN[0])
    assert rms_error(optimised.world_from, truth) < 0.5 * rms_error(before, truth)
    report = optimised.report
    assert report.converged
    assert report.cost_after < report.cost_before
    assert 0.7 < report.variance_factor < 1.3
    assert np.median(report.mahalanobis[199:]) < 3
    np.testing.assert_array_equal(report.weights, 1)


def test_the_result_is_a_minimum() -> None:
    """No small move of any submap lowers the cost."""
    rng = np.random.default_rng(2)
    truth = street(12, 1, rng)
    graph = graph_of(12, chain(truth, rng), [measured(truth, 0, 11, rng, kind="loop")])
    optimised = optimise(graph, ORIGIN)
    best = optimised.report.cost_after
    for node in range(1, 12):
        for axis in range(7):
            moved = list(optimised.world_from)
            moved[node] = moved[node] @ Sim3.exp(1e-4 * np.eye(7)[axis])
            assert cost_of(graph, moved) > best


def cost_of(graph: PoseGraph, world_from: Sequence[Sim3]) -> float:
    total = 0.0
    for edge in graph.edges:
        placed = world_from[edge.a].inverse() @ world_from[edge.b]
        residual = (edge.a_from_b.inverse() @ placed).log()
        total += float(residual @ edge.information @ residual)
    return total


@pytest.mark.parametrize("growth", [10.0, 0.1])
@pytest.mark.parametrize("loops", [1, 4])
def test_a_tenfold_scale_error_before_the_loop_closes_converges(growth: float, loops: int) -> None:
    rng = np.random.default_rng(3)
    nodes = 200
    truth = street(nodes, 1, rng)
    drift = np.append(np.zeros(6), np.log(growth) / nodes)
    closing = [measured(truth, i, nodes - loops + i, rng, kind="loop") for i in range(loops)]
    graph = graph_of(nodes, chain(truth, rng, drift=drift), closing)
    before = place_submaps(graph_of(nodes, graph.edges[: nodes - 1]), ORIGIN[0])
    assert abs(np.log(before[-1].scale / truth[-1].scale)) > 0.9 * np.log(10)
    optimised = optimise(graph, ORIGIN)
    assert optimised.report.converged
    np.testing.assert_array_equal(loop_weights(optimised, graph), 1)
    assert abs(np.log(optimised.world_from[-1].scale / truth[-1].scale)) < 0.05
    assert rms_error(optimised.world_from, truth) < 0.12 * rms_error(before, truth)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loops", [10, 80])
def test_wrong_loops_get_weight_0_and_do_not_move_the_map(seed: int, loops: int) -> None:
    """30 % of the loops are wrong: within 1.2 times the error without them."""
    rng = np.random.default_rng(seed)
    truth = street(300, 3, rng)
    base = chain(truth, rng)
    starts = rng.integers(0, 200, loops * 7 // 10)
    right = [measured(truth, i, i + 100, rng, kind="loop") for i in starts]
    wrong = [wrong_loop(truth, rng) for _ in range(loops * 3 // 10)]
    graph = graph_of(300, base, right, wrong)
    optimised = optimise(graph, ORIGIN)
    without = optimise(graph_of(300, base, right), ORIGIN)
    weights = loop_weights(optimised, graph)
    assert weights[: len(right)].mean() > 0.9
    np.testing.assert_array_equal(weights[len(right) :], 0)
    assert rms_error(optimised.world_from, truth) < 1.2 * rms_error(without.world_from, truth)


def test_a_single_loop_far_beyond_the_drift_is_refused() -> None:
    """Nothing but the chain contradicts it, and the chain is short."""
    rng = np.random.default_rng(4)
    truth = street(30, 1, rng)
    lie = replace(measured(truth, 3, 20, rng, kind="loop"), a_from_b=Sim3.identity())
    graph = graph_of(30, chain(truth, rng), [lie])
    optimised = optimise(graph, ORIGIN)
    np.testing.assert_array_equal(loop_weights(optimised, graph), 0)
    assert_same(optimised.world_from, place_submaps(graph_of(30, graph.edges[:-1]), ORIGIN[0]), 1e-9)


def test_overstated_information_costs_no_right_loops() -> None:
    """Errors five times what every edge claims: the common factor is found, wrong loops still go."""
    rng = np.random.default_rng(5)
    truth = street(300, 3, rng)
    right = [measured(truth, i, i + 100, rng, kind="loop", noise=5.0) for i in range(0, 200, 5)]
    wrong = [wrong_loop(truth, rng) for _ in range(15)]
    graph = graph_of(300, chain(truth, rng, noise=5.0), right, wrong)
    optimised = optimise(graph, ORIGIN)
    weights = loop_weights(optimised, graph)
    assert weights[: len(right)].mean() > 0.9
    np.testing.assert_array_equal(weights[len(right) :], 0)
    assert 15 < optimised.report.variance_factor < 35


def test_a_scale_prior_damps_the_drift_in_scale() -> None:
    """A long straight street, the scale wandering from chunk to chunk, every submap metric to 2 %."""
    rng = np.random.default_rng(6)
    nodes = 400
    truth = [
        Sim3(scale=1.0, rotation=np.eye(3), translation=np.array([0.0, 0.0, 6.0 * i])) for i in range(nodes)
    ]
    edges = [
        measured(truth, i - 1, i, rng, drift=np.append(np.zeros(6), 0.02 * rng.normal()))
        for i in range(1, nodes)
    ]
    edges = [replace(edge, information=np.diag(1.0 / np.square([*SIGMA[:6], 0.02]))) for edge in edges]
    graph = replace(graph_of(nodes, edges), metric_nodes=frozenset(range(nodes)))
    free, held = (optimise(graph, ORIGIN, options=PoseGraphOptions(scale_prior=s)) for s in (None, 0.02))
    free_spread, held_spread = (np.std([np.log(t.scale) for t in r.world_from]) for r in (free, held))
    assert held_spread < 0.25 * free_spread
    assert rms_error(held.world_from, truth) < rms_error(free.world_from, truth)


@pytest.mark.parametrize("metric", [frozenset(range(1, 6)), frozenset({2}), frozenset(range(6))])
def test_a_scale_prior_leaves_the_unit_of_the_world_free(metric: frozenset[int]) -> None:
    """Exact metric submaps in a world whose unit is 7 m: nothing to correct."""
    rng = np.random.default_rng(7)
    truth = [Sim3(scale=1 / 7, rotation=np.eye(3), translation=rng.normal(size=3)) for _ in range(6)]
    graph = replace(graph_of(6, chain(truth, rng, noise=0)), metric_nodes=metric)
    optimised = optimise(graph, truth[:1], options=PoseGraphOptions(scale_prior=1e-3))
    assert_same(optimised.world_from, truth, 1e-9)


def test_a_scale_prior_finds_the_minimum() -> None:
    """Two nodes: the log-scale between them is the weighted mean of the edge and of what the prior says."""
    edge = SubmapEdge(
        a=0,
        b=1,
        a_from_b=Sim3(scale=np.exp(0.3), rotation=np.eye(3), translation=np.zeros(3)),
        information=np.eye(7),
    )
    graph = PoseGraph(nodes=2, edges=(edge,), metric_nodes=frozenset({0, 1}))
    optimised = optimise(graph, options=PoseGraphOptions(scale_prior=0.5))
    # (x - 0.3)^2 + (x / sqrt 2 / 0.5)^2 is least at x = 0.1.
    np.testing.assert_allclose(np.log(optimised.world_from[1].scale), 0.1, atol=1e-9)
    np.testing.assert_allclose(optimised.report.cost_after, 0.2**2 + 0.1**2 * 2, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-7, 1e7])
def test_units_do_not_matter(unit: float) -> None:
    """Every second submap, and the world, in a unit a ten-millionth or ten million times as long."""
    rng = np.random.default_rng(8)
    truth = street(60, 2, rng)
    loops = [measured(truth, i, i + 30, rng, kind="loop") for i in range(0, 30, 3)]
    graph = graph_of(60, chain(truth, rng), loops)
    factors = np.where(np.arange(60) % 2 == 0, unit, 1.0)
    units = [Sim3(scale=f, rotation=np.eye(3), translation=np.zeros(3)) for f in factors]
    edges = []
    for edge in graph.edges:
        length = np.array([1.0] * 3 + [factors[edge.b]] * 3 + [1.0])
        edges.append(
            replace(
                edge,
                a_from_b=units[edge.a] @ edge.a_from_b @ units[edge.b].inverse(),
                information=edge.information / np.outer(length, length),
            )
        )
    want, have = optimise(graph, ORIGIN), optimise(graph_of(60, edges), ORIGIN)
    back = [units[0].inverse() @ placed @ u for placed, u in zip(have.world_from, units, strict=True)]
    assert_same(back, want.world_from, 1e-6)
    np.testing.assert_allclose(have.report.cost_after, want.report.cost_after, rtol=1e-6)


def test_a_node_that_hangs_on_hardly_any_information_stays_where_its_edge_puts_it() -> None:
    rng = np.random.default_rng(9)
    truth = street(20, 1, rng)
    edges = chain(truth, rng)
    edges[-1] = replace(edges[-1], information=1e-12 * np.eye(7))
    edges[-2] = replace(edges[-2], information=np.diag([1e4] * 6 + [0.0]))
    graph = graph_of(20, edges, [measured(truth, 0, 17, rng, kind="loop")])
    optimised = optimise(graph, ORIGIN)
    assert optimised.report.converged
    assert_same(optimised.world_from[-1:], [optimised.world_from[-2] @ edges[-1].a_from_b], 1e-4)


def test_a_submap_of_two_places_closes_the_loop() -> None:
    """A loop chunk is a node with an edge to either place; its wrong sister loses one of its edges."""
    rng = np.random.default_rng(10)
    truth = [*street(120, 2, rng)]
    ends = [(5, 65), (20, 80), (40, 100), (55, 115), (10, 90)]
    truth += [truth[a] @ Sim3.exp(0.1 * rng.normal(size=7)) for a, _ in ends]
    loops = [measured(truth, end, 120 + k, rng, kind="loop") for k, pair in enumerate(ends) for end in pair]
    loops[-1] = replace(loops[-1], a_from_b=Sim3.identity())
    graph = graph_of(125, chain(truth[:120], rng), loops)
    optimised = optimise(graph, ORIGIN)
    weights = loop_weights(optimised, graph)
    np.testing.assert_array_equal(weights[:8], 1)
    assert weights[8:].sum() == 1
    before = place_submaps(graph_of(120, graph.edges[:119]), ORIGIN[0])
    assert rms_error(optimised.world_from[:120], truth[:120]) < 0.7 * rms_error(before, truth[:120])


def test_a_start_of_some_poses_is_continued() -> None:
    """As in a stream: the earlier solution, then new submaps and a loop."""
    rng = np.random.default_rng(11)
    truth = street(60, 2, rng)
    early = optimise(graph_of(40, chain(truth[:40], rng)), ORIGIN)
    loops = [measured(truth, i, i + 30, rng, kind="loop") for i in range(0, 30, 5)]
    graph = graph_of(60, chain(truth, rng), loops)
    fresh, continued = optimise(graph, ORIGIN), optimise(graph, early.world_from)
    assert_same(continued.world_from, fresh.world_from, 1e-5)


def test_a_single_submap_stays_and_needs_no_edge() -> None:
    first = Sim3.exp(np.ones(7))
    optimised = optimise(PoseGraph(nodes=1, edges=()), [first])
    np.testing.assert_array_equal(optimised.world_from[0].matrix(), first.matrix())
    assert optimised.report.converged
    assert optimised.report.cost_after == 0
    assert optimised.report.mahalanobis.shape == optimised.report.weights.shape == (0,)


def test_the_first_submap_stays_to_the_bit() -> None:
    rng = np.random.default_rng(12)
    truth = street(20, 1, rng)
    graph = graph_of(20, chain(truth, rng), [measured(truth, 0, 19, rng, kind="loop")])
    first = Sim3.exp(rng.normal(size=7))
    np.testing.assert_array_equal(optimise(graph, [first]).world_from[0].matrix(), first.matrix())


def test_the_same_graph_gives_the_same_bits() -> None:
    rng = np.random.default_rng(13)
    truth = street(50, 2, rng)
    loops = [measured(truth, i, i + 25, rng, kind="loop") for i in range(0, 25, 4)]
    graph = graph_of(50, chain(truth, rng), loops)
    one, other = optimise(graph, ORIGIN), optimise(graph, ORIGIN)
    np.testing.assert_array_equal(
        [t.matrix() for t in one.world_from], [t.matrix() for t in other.world_from]
    )


@pytest.mark.parametrize("edges", [(), ((0, 1),), ((0, 1), (1, 3))])
def test_a_submap_without_an_edge_to_an_earlier_one_is_an_error(edges: tuple[tuple[int, int], ...]) -> None:
    rng = np.random.default_rng(14)
    truth = street(4, 1, rng)
    graph = graph_of(4, [measured(truth, a, b, rng) for a, b in edges])
    with pytest.raises(ValueError, match=r"submap \d has no edge to an earlier one"):
        optimise(graph)


@pytest.mark.parametrize(
    ("initial", "options", "message"),
    [
        ([], PoseGraphOptions(), "initial must hold 1 .. 1 poses, got 0"),
        ([Sim3.identity()] * 2, PoseGraphOptions(), "initial must hold 1 .. 1 poses, got 2"),
        (None, PoseGraphOptions(max_variance_factor=0.5), "max_variance_factor must be >= 1, got 0.5"),
        (None, PoseGraphOptions(scale_prior=0.0), "scale_prior must be > 0, got 0.0"),
    ],
)
def test_nonsense_is_refused(initial: list[Sim3] | None, options: PoseGraphOptions, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimise(PoseGraph(nodes=1, edges=()), initial, options=options)


def test_an_end_of_the_iterations_before_convergence_is_said() -> None:
    rng = np.random.default_rng(15)
    truth = street(100, 2, rng)
    loops = [measured(truth, i, i + 50, rng, kind="loop", noise=5) for i in range(0, 50, 5)]
    graph = graph_of(100, chain(truth, rng, noise=5), loops)
    report = optimise(graph, ORIGIN, options=PoseGraphOptions(max_iterations=1)).report
    assert not report.converged
    assert report.reason == "reached 1 iterations"
