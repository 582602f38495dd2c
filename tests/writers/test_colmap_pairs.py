"""Which images are matched."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from da3stream.writers.colmap.pairs import LOOP_IMAGES, LOOP_PARTNERS, OFFSETS, loop_pairs, sequence_pairs


def walk(count: int, heading_deg: float = 0.0, offset_m: float = 0.0) -> np.ndarray:
    """(count, 4, 4) poses one metre apart along z."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("y", heading_deg, degrees=True).as_matrix()
    poses[:, 2, 3] = np.arange(count)
    poses[:, 0, 3] = offset_m
    return poses


TWICE = np.concatenate([walk(40), walk(40, offset_m=0.2)])
"""The same street two times: image i + 40 is 0.2 m beside image i."""


def test_every_image_has_its_neighbours_at_the_offsets() -> None:
    pairs = sequence_pairs(30)
    assert len(set(pairs)) == len(pairs)
    assert {second - first for first, second in pairs} == set(OFFSETS)
    assert all(0 <= first < second < 30 for first, second in pairs)
    assert [second for first, second in pairs if first == 10] == [10 + offset for offset in OFFSETS]


def test_short_captures_have_what_there_is() -> None:
    assert sequence_pairs(0) == sequence_pairs(1) == []
    assert sequence_pairs(3) == [(0, 1), (0, 2), (1, 2)]


def test_a_loop_pairs_images_with_the_nearest_of_the_other_side() -> None:
    pairs = loop_pairs([(20, 60)], np.arange(80), TWICE)
    assert pairs == sorted(set(pairs))
    for image in range(20 - LOOP_IMAGES, 20 + LOOP_IMAGES + 1):
        assert (image, image + 40) in pairs, "the one 0.2 m beside it"
    assert all(abs(second - first - 40) < LOOP_PARTNERS for first, second in pairs)
    assert {first for first, _ in pairs} == set(range(20 - LOOP_IMAGES, 20 + LOOP_IMAGES + 1))


def test_the_order_of_the_frames_of_a_loop_does_not_matter() -> None:
    assert loop_pairs([(60, 20)], np.arange(80), TWICE) == loop_pairs([(20, 60)], np.arange(80), TWICE)


def test_frames_without_an_image_stand_for_the_nearest_image() -> None:
    """Of every fourth frame there is an image: frames 81 and 239 are nearest to images 20 and 60."""
    assert loop_pairs([(81, 239)], 4 * np.arange(80), TWICE) == loop_pairs([(20, 60)], np.arange(80), TWICE)


def test_images_that_look_the_other_way_are_no_partners() -> None:
    back = np.concatenate([walk(40), walk(40, heading_deg=180)])
    aside = np.concatenate([walk(40), walk(40, heading_deg=50)])
    assert loop_pairs([(20, 60)], np.arange(80), back) == []
    assert loop_pairs([(20, 60)], np.arange(80), aside)


def test_two_sides_that_run_into_each_other_pair_no_image_with_itself() -> None:
    pairs = loop_pairs([(5, 9)], np.arange(15), walk(15))
    assert pairs
    assert all(0 <= first < second < 15 for first, second in pairs)


def test_no_images_no_pairs() -> None:
    assert loop_pairs([(3, 40)], np.zeros(0, dtype=np.int64), np.zeros((0, 4, 4))) == []
    assert loop_pairs([], np.arange(80), TWICE) == []
