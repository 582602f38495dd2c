"""Statistical outlier removal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from da3stream.scene import FrameBlock
from da3stream.writers import outliers as module
from da3stream.writers.outliers import NEIGHBOURS, OutlierFilter, outliers

from .plane_scene import blocks_of, plane_block

FLOATING = [(3, 5, 9), (11, 10, 20), (17, 2, 2)]
"""Frame, row and column of pixels that are put half way to the camera."""


def with_floating_points() -> list[FrameBlock]:
    blocks = []
    for block in blocks_of(24, 8):
        depth = block.depth.copy()
        for frame, line, column in FLOATING:
            if frame in block.index:
                depth[frame - block.index[0], line, column] *= 0.5
        blocks.append(replace(block, depth=depth))
    return blocks


def gone(blocks: list[FrameBlock], sigma: float) -> list[tuple[int, int, int]]:
    cleaner = OutlierFilter(blocks, sigma=sigma, percentile=0.0)
    return [
        (int(block.index[row]), int(line), int(column))
        for block in blocks
        for row, line, column in np.argwhere(cleaner.clean(block).confidence == 0)
    ]


def test_points_that_float_alone_go_and_the_surface_stays() -> None:
    assert gone(with_floating_points(), sigma=8.0) == FLOATING


def test_a_surface_without_outliers_stays_as_it_is() -> None:
    assert gone(blocks_of(24, 8), sigma=12.0) == []


def test_outliers_are_those_of_the_definition() -> None:
    points = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    distances = np.sort(cdist(points, points), axis=1)[:, 1 : NEIGHBOURS + 1].mean(axis=1)
    for sigma in (1.0, 3.0):
        expected = distances > distances.mean() + sigma * distances.std()
        assert expected.any()
        assert np.array_equal(outliers(points, sigma), expected)


def test_the_number_of_points_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    whole = outliers(points, 1.0)
    monkeypatch.setattr(module, "_SLICE", 7)
    assert np.array_equal(outliers(points, 1.0), whole)


@pytest.mark.parametrize("count", [0, 1, NEIGHBOURS])
def test_too_few_points_are_no_statistics(count: int) -> None:
    assert not outliers(np.arange(3 * count, dtype=np.float32).reshape(-1, 3), 1.0).any()


def test_no_points_are_no_outliers() -> None:
    block = plane_block(0, 2)
    empty = replace(block, confidence=np.zeros_like(block.confidence))
    assert OutlierFilter([empty], sigma=1.0, percentile=0.0).clean(block) is block


def test_blocks_are_left_alone() -> None:
    blocks = with_floating_points()
    for block in blocks:
        block.confidence.flags.writeable = False
    assert len(gone(blocks, sigma=8.0)) == len(FLOATING)
