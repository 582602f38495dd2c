"""Which frames are shown, and in which order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from da3stream.viewing.keyframes import choose_keyframes, coarse_to_fine, growing_keyframes


def test_a_short_run_has_all_its_frames() -> None:
    assert choose_keyframes(np.zeros((5, 3)), 5).tolist() == [0, 1, 2, 3, 4]


def test_keyframes_are_even_in_distance_not_in_time() -> None:
    """The camera stands for 900 of 1,000 frames: most keyframes lie where it moves, some where it stands."""
    centres = np.zeros((1000, 3))
    centres[900:, 0] = np.arange(1, 101)
    chosen = choose_keyframes(centres, 100)
    assert len(chosen) <= 100
    assert {chosen[0], chosen[-1]} == {0, 999}
    assert np.count_nonzero(chosen >= 900) >= 60
    assert np.count_nonzero(chosen < 900) >= 15
    assert np.diff(chosen[chosen >= 900]).max() <= 3


def test_keyframes_of_a_camera_that_never_moves_are_even_in_time() -> None:
    assert np.diff(choose_keyframes(np.ones((1000, 3)), 11)).max() <= 101


@given(count=st.integers(1, 300))
def test_every_prefix_of_the_order_is_spread(count: int) -> None:
    order = coarse_to_fine(count)
    assert sorted(order) == list(range(count))
    for length in {1, 2, 4, 8, 16} & set(range(count + 1)):
        gaps = np.diff([*sorted(order[:length]), count])
        assert gaps.max() <= 2 * count / length + 1


@given(frames=st.integers(1, 3000), more=st.integers(0, 3000))
def test_keyframes_of_a_growing_run_stay_or_halve(frames: int, more: int) -> None:
    before, after = set(growing_keyframes(frames, 50)), set(growing_keyframes(frames + more, 50))
    assert len(after) <= 50
    assert {frame for frame in after if frame < frames} <= before
    assert len(after) > 25 or after == set(range(frames + more))
