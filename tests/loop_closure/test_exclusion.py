"""Exclusion in time and along the path."""

from __future__ import annotations

import numpy as np
import pytest

from da3stream.loop_closure.exclusion import search_limits, travelled_chunks


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


def test_the_unit_is_the_median_chunk_whatever_the_scale() -> None:
    centres = np.zeros((241, 3))
    centres[:, 0] = np.concatenate([np.arange(180), 179 + 5 * np.arange(1, 62)])
    travelled = travelled_chunks(centres, 61)
    assert travelled[60] == pytest.approx(1.0)
    assert travelled_chunks(1000 * centres, 61) == pytest.approx(travelled)
    assert not travelled_chunks(np.ones((50, 3)), 10).any()
    assert travelled_chunks(np.zeros((0, 3)), 10).shape == (0,)
