"""Semi-global matching against a plain implementation of its recursion."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from da3stream.estimation.classical.dense.semi_global import (
    JUMP_PENALTY,
    MAX_COST,
    MIN_JUMP_PENALTY,
    SMALL_STEP_PENALTY,
    aggregate,
    jump_penalties,
)

DIRECTIONS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def plain_path(cost: NDArray[np.int64], penalty: NDArray[np.int64], dy: int, dx: int) -> NDArray[np.int64]:
    """L(p, d) = C + min(L(q, d), L(q, d +- 1) + P1, min L(q) + P2(p)) - min L(q), with q = p - (dy, dx).

    Where q lies beside the image, oblique paths go on straight from the pixel before; the first row starts
    with C.
    """
    planes, height, width = cost.shape
    path = np.zeros_like(cost)
    for y in range(height) if dy >= 0 else range(height - 1, -1, -1):
        for x in range(width) if dx >= 0 else range(width - 1, -1, -1):
            from_y, from_x = y - dy, x - dx
            if dy != 0:
                from_x = min(max(from_x, 0), width - 1)
            if not (0 <= from_y < height and 0 <= from_x < width):
                path[:, y, x] = cost[:, y, x]
                continue
            previous = path[:, from_y, from_x]
            for d in range(planes):
                near = [previous[k] + SMALL_STEP_PENALTY for k in (d - 1, d + 1) if 0 <= k < planes]
                best = min(previous[d], previous.min() + penalty[y, x], *near)
                path[d, y, x] = cost[d, y, x] + best - previous.min()
    return path


@pytest.mark.parametrize("shape", [(5, 6, 7), (4, 7, 3), (6, 2, 9)])
def test_sum_of_eight_paths(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    cost = rng.integers(0, MAX_COST + 1, shape)
    penalty = rng.integers(MIN_JUMP_PENALTY, JUMP_PENALTY + 1, shape[1:])
    want = sum(plain_path(cost, penalty, dy, dx) for dy, dx in DIRECTIONS)
    np.testing.assert_array_equal(aggregate(cost.astype(np.uint8), penalty.astype(np.uint8)), want)


def test_extreme_costs_do_not_overflow() -> None:
    rng = np.random.default_rng(1)
    cost = rng.choice([0, MAX_COST], (8, 9, 10))
    cost[:, 4] = MAX_COST
    penalty = np.full((9, 10), JUMP_PENALTY)
    want = sum(plain_path(cost, penalty, dy, dx) for dy, dx in DIRECTIONS)
    np.testing.assert_array_equal(aggregate(cost.astype(np.uint8), penalty.astype(np.uint8)), want)


def test_a_wrong_pixel_on_a_plain_surface_is_outvoted() -> None:
    cost = np.full((10, 15, 15), 60, np.uint8)
    cost[4] = 20
    cost[:, 7, 7], cost[8, 7, 7] = 60, 20
    best = aggregate(cost, np.full((15, 15), JUMP_PENALTY, np.uint8)).argmin(axis=0)
    assert (best == 4).all()


def test_jumps_are_cheaper_at_image_edges() -> None:
    grey = np.zeros((20, 20), np.uint8)
    grey[:, 10:] = 200
    penalty = jump_penalties(grey)
    assert penalty[10, 2] == JUMP_PENALTY
    assert penalty[10, 10] < JUMP_PENALTY / 2
    assert penalty.min() >= MIN_JUMP_PENALTY
