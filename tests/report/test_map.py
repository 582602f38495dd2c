"""The path from above: not mirrored, true to scale, whatever the world's frame."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from da3stream.report.facts import Facts
from da3stream.report.map import MOST_LABELS, MOST_LOOPS, MOST_POINTS, PIECES, path_map
from da3stream.scene import LoopCandidate, LoopClosure
from da3stream.synthetic.paths import street_laps

Array = NDArray[np.float64]


def facts_of(poses: Array, *, loops: int = 0, before: Array | None = None, up: str | None = None) -> Facts:
    closed = [
        LoopClosure(
            candidate=LoopCandidate(
                later=len(poses) - 1 - n, earlier=n, similarity=0.9, threshold=0.5, support=3
            ),
            chunk=n,
            reason=None if n % 2 else "<too far>",
        )
        for n in range(loops)
    ]
    alignment = None if up is None else SimpleNamespace(up=up)
    facts = SimpleNamespace(
        positions_after=poses[:, :3, 3],
        positions_before=before,
        trajectory=SimpleNamespace(world_from_cam=poses),
        run=SimpleNamespace(alignment=alignment),
        is_metric=True,
        loops=closed,
        unused_loops=set(),
        seconds_of=lambda frame: frame / 30,
    )
    return cast("Facts", facts)


def drawn(svg: str | None, class_: str = "after") -> Array:
    """(N, 2) pixels of the path."""
    assert svg is not None
    lines = re.findall(rf'<polyline points="([^"]*)" class="{class_}"', svg)
    return np.array([point.split(",") for line in lines for point in line.split()], dtype=float)


def turning(path: Array) -> float:
    """Signed area (N, 2): > 0 where the path turns left, the second axis up."""
    x, y = (path - path.mean(0)).T
    return float((x[:-1] * np.diff(y) - y[:-1] * np.diff(x)).sum())


@pytest.mark.parametrize("seed", range(4))
def test_what_turns_left_turns_left_on_the_map_in_any_world(seed: int) -> None:
    poses = street_laps(100, lap_frames=110)
    world = np.eye(4)
    world[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    pixels = drawn(path_map(facts_of(world @ poses)))
    seen_from_above = poses[:, [0, 2], 3]  # x right and z ahead; y points down, away from the reader
    assert np.sign(turning(pixels * [1, -1])) == np.sign(turning(seen_from_above))


def test_an_upright_world_is_drawn_as_it_is() -> None:
    poses = street_laps(100, lap_frames=110)
    pixels = drawn(path_map(facts_of(poses, up="plane")))[[0, -1]]
    truth = poses[[0, -1]][:, [0, 2], 3]
    step, true_step = np.diff(pixels * [1, -1], axis=0)[0], np.diff(truth, axis=0)[0]
    np.testing.assert_allclose(step / np.linalg.norm(step), true_step / np.linalg.norm(true_step), atol=0.02)


def test_both_axes_have_one_scale() -> None:
    poses = street_laps(400, lap_frames=420)
    svg = path_map(facts_of(poses, up="plane"))
    assert svg is not None
    extent = np.ptp(drawn(svg), axis=0) / np.ptp(poses[:, [0, 2], 3], axis=0)
    assert extent[0] == pytest.approx(extent[1], rel=0.01)


def test_a_long_run_gives_a_small_picture() -> None:
    poses = street_laps(50_000)
    svg = path_map(facts_of(poses, loops=1000, before=poses[:, :3, 3] + 1))
    assert svg is not None
    assert len(drawn(svg)) <= MOST_POINTS + PIECES
    assert len(drawn(svg, "before")) <= MOST_POINTS
    assert svg.count('class="spot"') <= MOST_LABELS
    assert [svg.count(f'class="{name}"') for name in ("loop", "loop-before", "refused")] == [MOST_LOOPS] * 3
    assert len(svg) < 200_000
    assert "&lt;too far&gt;" in svg


@pytest.mark.parametrize("frames", [1, 2])
def test_the_shortest_paths(frames: int) -> None:
    svg = path_map(facts_of(street_laps(100)[:frames]))
    assert svg is not None
    assert "nan" not in svg
    assert 'class="start"' in svg


def test_frames_are_named_under_the_pointer() -> None:
    svg: Any = path_map(facts_of(street_laps(31)))
    assert "<title>frame 30, 1.00 s, at" in svg
