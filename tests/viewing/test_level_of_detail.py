"""Thinning by voxels."""

from __future__ import annotations

import numpy as np
import pytest

from da3stream.viewing.level_of_detail import (
    LEVELS,
    VoxelTable,
    finest_footprint,
    side_for,
)


def plane(points: int, seed: int = 0) -> np.ndarray:
    """(K, 3) random points of the unit square."""
    points_in_plane = np.random.default_rng(seed).uniform(0, 1, (points, 2))
    return np.column_stack([points_in_plane, np.full(points, 0.31)])


def test_every_voxel_is_shown_once() -> None:
    table = VoxelTable(0.1, 0.1)
    points, footprint = plane(5000), np.full(5000, 0.1)
    shown = table.add(points, footprint)
    assert [len(rows) for rows in shown.rows[1:]] == [0] * (LEVELS - 1)
    cells = np.floor(points[shown.rows[0]] / 0.1)
    assert len(np.unique(cells, axis=0)) == len(shown)
    assert len(shown) == pytest.approx(len(np.unique(np.floor(points / 0.1), axis=0)), rel=0.02)


def test_what_an_earlier_keyframe_shows_is_not_repeated() -> None:
    table = VoxelTable(0.1, 0.1)
    table.add(plane(5000), np.full(5000, 0.1))
    assert len(table.add(plane(5000, seed=1), np.full(5000, 0.1))) <= 2


def test_near_points_hide_far_ones_but_not_the_other_way_round() -> None:
    near, far = np.full(5000, 0.02), np.full(5000, 0.16)
    table = VoxelTable(0.02, 0.02)
    table.add(plane(20000), np.full(20000, 0.02))
    assert len(table.add(plane(5000, seed=1), far)) <= 2
    table = VoxelTable(0.02, 0.02)
    table.add(plane(5000), far)
    assert len(table.add(plane(5000, seed=1), near)) > 1000


def test_what_is_shown_coarsely_is_found_once_it_is_shown_finely() -> None:
    table = VoxelTable(0.02, 0.02)
    far = plane(5000)
    table.add(far, np.full(5000, 0.16))
    assert not table.is_coarse(far, 3).any()
    near = plane(20000, seed=1)
    near = near[near[:, 0] < 0.48]
    table.add(near, np.full(len(near), 0.02))
    is_coarse = table.is_coarse(far, 3)
    assert is_coarse[far[:, 0] < 0.47].all()
    assert not is_coarse[far[:, 0] > 0.49].any()
    assert not table.is_coarse(near, 0).any()


def test_levels_double() -> None:
    table = VoxelTable(0.05, 0.1)
    assert table.levels_of(np.array([0.0, 0.01, 0.1, 0.2, 0.4, 0.8, 99.0])).tolist() == [0, 0, 0, 1, 2, 3, 3]
    assert [table.side(level) for level in range(LEVELS)] == [0.05, 0.1, 0.2, 0.4]


def test_points_of_one_image_touch_however_small_the_voxels_are() -> None:
    assert VoxelTable(0.001, 0.1).drawn(0) > 0.05
    assert VoxelTable(0.5, 0.1).drawn(0) == 0.5


def test_the_side_for_a_budget_fits_surfaces() -> None:
    """A plane thinned with the side that is predicted has as many points as were asked for."""
    points, footprint = plane(400_000), np.full(400_000, 0.002)
    fine = len(VoxelTable(0.005, 0.002).add(points, footprint))
    side = side_for(0.005, fine, 2500)
    assert len(VoxelTable(side, 0.002).add(points, footprint)) == pytest.approx(2500, rel=0.1)


def test_the_finest_footprint_is_half_of_the_median() -> None:
    assert finest_footprint([np.array([1.0, 2.0]), np.array([3.0])]) == 1.0
    assert finest_footprint([]) == 1.0
