"""The choice of keyframes: the best first, spread, none that is not similar enough."""

from __future__ import annotations

import numpy as np

from da3stream.loop_closure.keyframes import choose_keyframes


def choose(
    hits: dict[int, float], *, threshold: float = 0.5, spacing: int = 5, most: int = 3
) -> tuple[int, ...]:
    """From one query, and one that has found nothing."""
    matches, similarities = np.full((2, len(hits)), -1), np.full((2, len(hits)), np.nan, np.float32)
    matches[0], similarities[0] = list(hits), list(hits.values())
    return choose_keyframes(matches, similarities, threshold=threshold, spacing=spacing, most=most)


def test_the_best_come_first_and_are_given_in_their_order() -> None:
    assert choose({10: 0.6, 20: 0.9, 30: 0.7, 40: 0.8}) == (20, 30, 40)


def test_chosen_frames_keep_their_distance() -> None:
    assert choose({10: 0.8, 14: 0.9, 15: 0.7, 18: 0.6, 19: 0.55}) == (14, 19)


def test_what_is_not_similar_enough_is_not_chosen() -> None:
    assert choose({10: 0.5, 20: 0.51}) == (20,)
    assert choose({10: 0.9}, threshold=float("inf")) == ()
    assert choose({}) == ()


def test_all_queries_count_and_a_frame_that_two_found_is_chosen_once() -> None:
    matches = np.array([[3, 20], [3, 40]])
    similarities = np.array([[0.9, 0.6], [0.8, 0.7]], np.float32)
    assert choose_keyframes(matches, similarities, threshold=0.5, spacing=1, most=5) == (3, 20, 40)
    assert choose_keyframes(matches, similarities, threshold=0.5, spacing=1, most=2) == (3, 40)
