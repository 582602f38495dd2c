"""The share of points that fits under a cap."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da3stream.scene import FrameBlock
from da3stream.writers.cloud import PointCloud
from da3stream.writers.sampling import CloudSampler

from .plane_scene import blocks_of, plane_block, without_frames

PIXELS = 19 * 28


def sample(blocks, *, max_points, frames=24, percentile=40.0) -> list[PointCloud]:
    sampler = CloudSampler(max_points=max_points, frames=frames, percentile=percentile)
    return [sampler.sample(block) for block in blocks]


@cache
def all_blocks(size: int) -> list[FrameBlock]:
    """24 frames; nothing writes to blocks."""
    return blocks_of(24, size)


@settings(deadline=None)
@given(
    max_points=st.integers(1, 24 * PIXELS * 2),
    percentile=st.sampled_from([0.0, 40.0, 99.0]),
    size=st.sampled_from([1, 5, 24]),
    ties=st.booleans(),
    announced=st.sampled_from([0, 20, 24, 1000]),
)
def test_the_cap_holds_whatever_comes(max_points, percentile, size, ties, announced):
    blocks = all_blocks(size)
    if ties:
        blocks = [replace(block, confidence=np.ones_like(block.confidence)) for block in blocks]
    clouds = sample(blocks, max_points=max_points, frames=announced, percentile=percentile)
    assert sum(len(cloud) for cloud in clouds) <= max_points


@pytest.mark.parametrize("max_points", [1, 7, 23, 25, 1000, 7000])
@pytest.mark.parametrize("ties", [False, True])
def test_the_cap_is_used_up(max_points, ties):
    blocks = blocks_of(24, 8)
    if ties:
        blocks = [replace(block, confidence=np.ones_like(block.confidence)) for block in blocks]
    total = sum(len(cloud) for cloud in sample(blocks, max_points=max_points))
    assert max_points - 1 <= total <= max_points


def test_nothing_is_left_out_below_the_cap():
    blocks = blocks_of(24, 8)
    clouds = sample(blocks, max_points=24 * PIXELS, percentile=0.0)
    assert [len(cloud) for cloud in clouds] == [8 * PIXELS] * 3


@pytest.mark.parametrize("ties", [False, True])
def test_every_block_gets_its_part(ties):
    """Equal confidences everywhere must not use up the cap before the last frames come."""
    blocks = blocks_of(24, 4)
    if ties:
        blocks = [replace(block, confidence=np.ones_like(block.confidence)) for block in blocks]
    sizes = [len(cloud) for cloud in sample(blocks, max_points=2400)]
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) >= 2399


def test_the_sample_is_a_subset_without_repetitions():
    block = plane_block(0, 6, frames=6)
    everything = sample([block], max_points=10**6, frames=6)[0]
    some = sample([block], max_points=500, frames=6)[0]
    rows = {tuple(row) for row in everything.points_in_world.tolist()}
    chosen = [tuple(row) for row in some.points_in_world.tolist()]
    assert 499 <= len(chosen) <= 500
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= rows


def test_the_sample_is_spread_over_the_image():
    block = replace(plane_block(0, 1), confidence=np.ones((1, 19, 28), dtype=np.float32))
    colors = sample([block], max_points=200, frames=1, percentile=0.0)[0].colors
    quarters = (colors[:, 0] >= 42) * 2 + (colors[:, 1] >= 28)
    assert np.bincount(quarters, minlength=4).min() > 30


def test_the_same_frames_give_the_same_points():
    blocks = blocks_of(24, 8)
    first = PointCloud.concatenate(sample(blocks, max_points=1000))
    second = PointCloud.concatenate(sample(blocks, max_points=1000))
    assert np.array_equal(first.points_in_world, second.points_in_world)


def test_frames_differ_in_the_pixels_that_are_taken():
    block = replace(plane_block(0, 2, frames=2), confidence=np.ones((2, 19, 28), dtype=np.float32))
    colors = sample([block], max_points=100, frames=2)[0].colors
    first, second = (colors[colors[:, 2] == frame, :2].tolist() for frame in (0, 1))
    assert len(first) == len(second) == 50
    assert first != second


def test_a_block_of_no_frames_is_empty():
    assert len(sample([without_frames(plane_block(0, 1))], max_points=10)[0]) == 0
