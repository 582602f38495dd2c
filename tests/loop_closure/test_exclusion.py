"""Exclusion in time and along the path."""

from __future__ import annotations

import numpy as np
import pytest

from da3stream.loop_closure.exclusion import TravelledPath, search_limits


def test_limits_against_their_definition() -> None:
    rng = np.random.default_rng(0)
    travelled = np.cumsum(rng.exponential(0.1, 200) * (rng.random(200) < 0.6))
    frames = np.arange(0, 200, 7)
    limits = search_limits(frames, min_gap=20, travelled=travelled, min_travelled=1.5)
    for frame, limit in zip(frames, limits, strict=True):
        far = [j for j in range(200) if frame - j >= 20 and travelled[frame] - 1.5 >= travelled[j]]
        assert far == list(range(limit))


def test_standing_still_closes_no_loop() -> None:
    travelled = np.concatenate([np.linspace(0, 5, 100), np.full(500, 5.0)])
    assert search_limits(np.array([599]), min_gap=50, travelled=travelled, min_travelled=1.0) == [80]


def travelled(centres: np.ndarray, chunk: int, step: int = 10**6) -> np.ndarray:
    path = TravelledPath(chunk)
    for start in range(0, len(centres), step):
        path.add(centres[start : start + step])
    return path.in_chunks


def test_the_unit_is_the_median_chunk_whatever_the_scale() -> None:
    centres = np.zeros((241, 3))
    centres[:, 0] = np.concatenate([np.arange(180), 179 + 5 * np.arange(1, 62)])
    path = travelled(centres, 61)
    assert path[60] == pytest.approx(1.0)
    assert travelled(1000 * centres, 61) == pytest.approx(path)
    assert not travelled(np.ones((50, 3)), 10).any()
    assert travelled(np.zeros((0, 3)), 10).shape == (0,)
    assert travelled(centres[:31], 61)[-1] == pytest.approx(1.0)  # less than a chunk


def test_the_path_is_the_same_however_it_comes() -> None:
    centres = np.cumsum(np.random.default_rng(0).normal(size=(300, 3)), axis=0)
    assert travelled(centres, 40, step=7) == pytest.approx(travelled(centres, 40))
