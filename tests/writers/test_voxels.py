"""One point a voxel."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.writers.cloud import PointCloud
from da3stream.writers.voxels import VoxelGrid


def random_cloud(count: int, *, seed: int = 0, span: float = 1.0) -> PointCloud:
    rng = np.random.default_rng(seed)
    return PointCloud(
        points_in_world=rng.uniform(-span, span, (count, 3)).astype(np.float32),
        colors=rng.integers(0, 256, (count, 3), dtype=np.uint8),
        confidence=rng.permutation(np.linspace(0.1, 1.0, count)).astype(np.float32),
    )


def voxels(points: np.ndarray, side: float) -> np.ndarray:
    """The voxels of the finest grid, by the plain definition."""
    return np.floor(points.astype(np.float64) / side).astype(np.int64)


def filled(clouds, *, voxel_size: float, max_points: int = 10**6) -> VoxelGrid:
    grid = VoxelGrid(voxel_size=voxel_size, max_points=max_points)
    for cloud in clouds:
        grid.add(cloud)
    return grid


def rows(cloud: PointCloud) -> set[tuple[float, ...]]:
    columns = (cloud.points_in_world, cloud.colors, cloud.confidence[:, None])
    return {tuple(row) for row in np.concatenate(columns, axis=1).tolist()}


@settings(deadline=None)
@given(count=st.integers(0, 400), parts=st.integers(1, 5), side=st.sampled_from([0.05, 0.3, 0.7, 5.0]))
def test_every_voxel_keeps_its_most_confident_point(count, parts, side):
    cloud = random_cloud(count, seed=count)
    pieces = [cloud.take(piece) for piece in np.array_split(np.arange(count), parts)]
    thinned = filled(pieces, voxel_size=side).cloud
    best: dict[tuple[int, ...], int] = {}
    for row, voxel in enumerate(map(tuple, voxels(cloud.points_in_world, side).tolist())):
        if voxel not in best or cloud.confidence[row] > cloud.confidence[best[voxel]]:
            best[voxel] = row
    assert len(thinned) == len(best)
    assert rows(thinned) == rows(cloud.take(np.array(list(best.values()), dtype=int)))


def test_of_equally_confident_points_the_first_stays():
    cloud = random_cloud(50, span=0.01)
    points = np.abs(cloud.points_in_world)
    equal = PointCloud(points_in_world=points, colors=cloud.colors, confidence=np.ones(50, dtype=np.float32))
    halves = [equal.take(np.arange(25)), equal.take(np.arange(25, 50))]
    assert np.array_equal(filled(halves, voxel_size=1.0).cloud.points_in_world, points[:1])


@settings(deadline=None)
@given(max_points=st.integers(1, 300), parts=st.integers(1, 4))
def test_the_cap_holds_and_the_result_is_that_of_the_larger_voxels(max_points, parts):
    cloud = random_cloud(600, seed=max_points)
    pieces = [cloud.take(piece) for piece in np.array_split(np.arange(600), parts)]
    grid = filled(pieces, voxel_size=0.03, max_points=max_points)
    assert 1 <= len(grid.cloud) <= max_points
    at_once = filled([cloud], voxel_size=0.03, max_points=max_points)
    assert grid.voxel_size == at_once.voxel_size > 0.03
    assert rows(grid.cloud) == rows(at_once.cloud)


def test_merged_voxels_leave_no_two_points_too_close_and_no_place_empty():
    cloud = random_cloud(5000)
    grid = filled([cloud], voxel_size=0.02, max_points=400)
    assert np.log2(grid.voxel_size / 0.02) == round(np.log2(grid.voxel_size / 0.02)) > 0
    distance = np.linalg.norm(cloud.points_in_world[:, None] - grid.cloud.points_in_world, axis=-1)
    assert distance.min(axis=1).max() <= grid.voxel_size * np.sqrt(3)


def test_a_cap_of_one_leaves_the_most_confident_point_of_all():
    cloud = random_cloud(200)
    grid = filled([cloud], voxel_size=1e-3, max_points=1)
    assert rows(grid.cloud) == rows(cloud.take(np.array([cloud.confidence.argmax()])))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("side", "span"), [(1e-300, 1.0), (1e-9, 1e30), (1e30, 1.0), (0.01, 3e38)])
def test_no_extent_is_too_large_and_no_voxel_too_small(side, span):
    cloud = random_cloud(100, span=span / 2)
    grid = filled([cloud], voxel_size=side, max_points=3)
    assert 1 <= len(grid.cloud) <= 3
    assert rows(grid.cloud) <= rows(cloud)


def test_points_are_not_written_to():
    cloud = random_cloud(100)
    for array in (cloud.points_in_world, cloud.colors, cloud.confidence):
        array.flags.writeable = False
    grid = filled([cloud], voxel_size=0.5)
    grid.add(random_cloud(300, seed=1))


def test_memory_depends_on_the_cap_alone():
    grid = VoxelGrid(voxel_size=1e-4, max_points=20_000)
    tracemalloc.start()
    try:
        for step in range(60):
            grid.add(random_cloud(5_000, seed=step, span=10.0 * (step + 1)))
            if step == 5:
                tracemalloc.reset_peak()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 300,000 points came, 19 bytes each; at most the cap of them, one block and slack may be alive at a time.
    assert peak < 70 * 20_000 + 200 * 5_000 + 500_000


def test_every_point_finds_the_point_of_its_voxel():
    cloud = random_cloud(3000)
    grid = filled([cloud], voxel_size=0.05, max_points=300)
    assert grid.voxel_size > 0.05
    found = grid.rows_of(cloud.points_in_world)
    assert found.min() >= 0
    held = grid.cloud.points_in_world[found]
    assert np.abs(held - cloud.points_in_world).max() < grid.voxel_size
    assert np.array_equal(grid.rows_of(grid.cloud.points_in_world), np.arange(len(grid.cloud)))
    assert grid.rows_of(np.full((2, 3), 100.0, dtype=np.float32)).tolist() == [-1, -1]
    assert VoxelGrid(voxel_size=1.0, max_points=5).rows_of(cloud.points_in_world[:2]).tolist() == [-1, -1]
