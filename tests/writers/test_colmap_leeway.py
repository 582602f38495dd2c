"""How far a refinement may move cameras."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream.geometry.sim3 import Sim3
from da3stream.scene import PoseUncertainty
from da3stream.writers.colmap.leeway import (
    LEAST_IMAGES,
    MAX_SHIFT,
    MAX_TURN_RAD,
    MIN_SHIFT,
    MIN_TURN_RAD,
    Leeway,
)

COUNT, CHUNK = 120, 12
DEPTH = 5.0
CHUNKS = [row // CHUNK for row in range(COUNT)]


def street(count: int = COUNT) -> np.ndarray:
    """(N, 4, 4) poses half a metre apart, with a bend, so that nothing is straight."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    angles = np.linspace(0, 1, count)
    poses[:, :3, :3] = Rotation.from_euler("y", angles[:, None]).as_matrix()
    poses[1:, :3, 3] = np.cumsum(0.5 * poses[:-1, :3, 2], axis=0)
    return poses


def leeway(turn_rad: float = 1e-3, shift: float = 1e-3, chunks: list[int] = CHUNKS) -> Leeway:
    each = PoseUncertainty(turn_rad=turn_rad, shift_over_depth=shift, log_scale=1e-3)
    return Leeway.of(chunks, dict.fromkeys(chunks, each), [DEPTH] * len(chunks))


def shaken(poses: np.ndarray, *, shift_m: float = 0.0, turn_rad: float = 0.0) -> np.ndarray:
    """Every camera moved by itself."""
    rng, moved = np.random.default_rng(1), poses.copy()
    moved[:, :3, 3] += shift_m * rng.normal(size=(len(poses), 3))
    moved[:, :3, :3] = (
        Rotation.from_rotvec(turn_rad * rng.normal(size=(len(poses), 3))).as_matrix() @ poses[:, :3, :3]
    )
    return moved


def test_stretches_cover_all_images_and_overlap() -> None:
    stretches = leeway().stretches
    assert {row for stretch in stretches for row in stretch.rows} == set(range(COUNT))
    for one, other in pairwise(stretches):
        assert len(set(one.rows) & set(other.rows)) == CHUNK, "they share a chunk"


@pytest.mark.parametrize("sizes", [[1], [3, 4], [40], [2] * 30, [1, 30, 1, 1, 1], [20, 20, 1]])
def test_any_chunks_are_covered_by_stretches_of_enough_images(sizes: list[int]) -> None:
    chunks = [chunk for chunk, size in enumerate(sizes) for _ in range(size)]
    stretches = leeway(chunks=chunks).stretches
    assert {row for stretch in stretches for row in stretch.rows} == set(range(len(chunks)))
    assert all(len(stretch.rows) >= min(LEAST_IMAGES, len(chunks)) for stretch in stretches)


def test_moving_everything_together_is_no_movement() -> None:
    before = street()
    whole = Sim3.exp([0.4, -1.0, 0.2, 5.0, -3.0, 2.0, 0.7])
    moved = leeway().worst(before, whole.move_pose(before))
    assert moved.shift_over_depth < 1e-9
    assert moved.turn_rad < 1e-6
    assert moved.excess < 1


def test_what_is_uncertain_may_move_so_far_and_what_is_certain_may_not() -> None:
    before = street()
    after = shaken(before, shift_m=0.008 * DEPTH, turn_rad=0.008)
    assert leeway(turn_rad=1e-4, shift=1e-4).worst(before, after).excess > 1
    assert leeway(turn_rad=8e-3, shift=8e-3).worst(before, after).excess < 1


def test_a_drift_that_is_small_everywhere_may_move_the_far_end_by_much() -> None:
    """Half a degree a chunk: nothing between neighbours, metres at the end."""
    before = street()
    turned = Rotation.from_euler("x", np.linspace(0, 0.08, COUNT)[:, None]).as_matrix()
    after = before.copy()
    after[:, :3, :3] = turned @ before[:, :3, :3]
    after[1:, :3, 3] = np.cumsum((turned[:-1] @ np.diff(before[:, :3, 3], axis=0)[..., None])[..., 0], axis=0)
    assert np.linalg.norm(after[-1, :3, 3] - before[-1, :3, 3]) > 0.3 * DEPTH
    assert leeway().worst(before, after).excess < 1


def test_one_chunk_that_breaks_out_is_found_among_many() -> None:
    before = street()
    after = before.copy()
    after[36:48, :3, 3] += [0, 0.2 * DEPTH, 0]
    moved = leeway().worst(before, after)
    assert moved.shift_over_depth > moved.shift_allowed


def test_no_uncertainty_allows_more_than_the_most_and_none_less_than_the_least() -> None:
    before = street()
    wild, sure = leeway(1.0, 1.0).worst(before, before), leeway(0.0, 0.0).worst(before, before)
    assert (wild.shift_allowed, wild.turn_allowed_rad) == (MAX_SHIFT, MAX_TURN_RAD)
    assert sure.turn_allowed_rad == MIN_TURN_RAD
    assert Leeway.of(CHUNKS, {}, [DEPTH] * COUNT).worst(before, before).shift_allowed == MIN_SHIFT


def test_no_images_do_not_move() -> None:
    assert Leeway.of([], {}, []).worst(np.zeros((0, 4, 4)), np.zeros((0, 4, 4))).excess == 0
