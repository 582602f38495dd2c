from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from da3stream.loop_closure.overlap import evenly, measure_overlap, weighted_median

from .boards import FOCAL, HEIGHT, WALL, WIDTH, depth_at, fence, no_boards, submap, uneven

EARLIER, LATER = (3,), (70,)


def pair(earlier: np.ndarray, later: np.ndarray, shift: float = 0.0):
    return submap([earlier, later], [0.0, shift], EARLIER + LATER)


def both_ways(scene, tolerance: float = 0.02):
    return (
        measure_overlap(scene, EARLIER, LATER, tolerance=tolerance),
        measure_overlap(scene, LATER, EARLIER, tolerance=tolerance),
    )


@pytest.mark.parametrize("share", [0.75, 0.5, 0.25])
def test_coverage_is_the_share_of_the_image_that_the_other_sees(share):
    shift = (1 - share) * WIDTH / FOCAL * WALL
    wall = depth_at(0.0, no_boards)
    for overlap in both_ways(pair(wall, wall, shift)):
        # Less a row at the border, and at most a column.
        assert overlap.coverage == pytest.approx(share * (HEIGHT - 1) / HEIGHT, abs=1.01 / WIDTH)
        assert overlap.confirmed == pytest.approx(overlap.coverage)
        assert overlap.agreement == 1.0
        assert overlap.log_depth_ratio == pytest.approx(0.0, abs=1e-6)


def test_cameras_that_look_elsewhere_see_nothing_of_each_other():
    wall = depth_at(0.0, no_boards)
    for overlap in both_ways(pair(wall, wall, 3 * WIDTH / FOCAL * WALL)):
        assert (overlap.coverage, overlap.confirmed, overlap.agreement) == (0.0, 0.0, 0.0)


def test_what_is_behind_the_camera_is_not_seen():
    scene = pair(depth_at(0.0, no_boards), depth_at(0.0, no_boards))
    beyond = scene.cam_from_submap.copy()
    beyond[1, 2, 3] = -2 * WALL
    assert both_ways(replace(scene, cam_from_submap=beyond))[0].coverage == 0.0


def test_boards_hide_the_wall_and_do_not_contradict_it():
    """From aside, other parts of the wall lie behind the boards."""
    for overlap in both_ways(pair(depth_at(0.0, uneven, board=3.0), depth_at(1.0, uneven, board=3.0), 1.0)):
        assert overlap.agreement > 0.99
        assert overlap.confirmed < overlap.coverage - 0.05


def test_a_change_between_two_visits_contradicts_in_one_direction_only():
    fewer = depth_at(0.0, no_boards)
    more = depth_at(0.0, fence(2.0))
    forth, back = both_ways(pair(more, fewer))
    assert forth.agreement == pytest.approx(0.5, abs=0.1)
    assert back.agreement == 1.0
    assert back.confirmed < 0.7


def test_another_place_contradicts_in_both_directions():
    for overlap in both_ways(pair(depth_at(0.0, uneven), depth_at(10.0, uneven))):
        assert overlap.agreement < 0.75


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_wrong_scale_of_one_place_is_measured_and_contradicts(factor):
    scene = pair(depth_at(0.0, no_boards), factor * depth_at(0.0, no_boards))
    forth, back = both_ways(scene)
    assert forth.log_depth_ratio == pytest.approx(-np.log(factor), abs=1e-6)
    assert back.log_depth_ratio == pytest.approx(np.log(factor), abs=1e-6)
    assert min(forth.agreement, back.agreement) == 0.0
    assert both_ways(scene, tolerance=0.3)[0].agreement == 1.0


def test_a_slanted_wall_agrees_within_a_tiny_tolerance():
    """Depth changes by several percent from pixel to pixel; between the pixels around lies the true one."""
    ray = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL

    def slanted(x: float) -> np.ndarray:  # the plane z = 4 + 1.2 x
        return np.tile((4 + 1.2 * x) / (1 - 1.2 * ray), (HEIGHT, 1))

    for overlap in both_ways(pair(slanted(0.0), slanted(0.3), 0.3), tolerance=0.001):
        assert overlap.confirmed > 0.85
        assert overlap.agreement == 1.0


@pytest.mark.parametrize("lost", ["confidence", "depth", "sky", "all"])
def test_unknown_pixels_are_not_compared(lost):
    scene = pair(depth_at(0.0, no_boards), depth_at(0.0, no_boards))
    half = np.zeros(scene.depth.shape, dtype=bool)
    half[1, :, : WIDTH // 2] = True
    if lost == "confidence":
        scene = replace(scene, confidence=np.where(half, 0.0, scene.confidence).astype(np.float32))
    elif lost == "depth":
        scene = replace(scene, depth=np.where(half, np.nan, scene.depth).astype(np.float32))
    elif lost == "sky":
        scene = replace(scene, sky=half)
    else:
        scene = replace(scene, confidence=np.zeros_like(scene.confidence))
    forth, back = both_ways(scene)
    assert forth.coverage == pytest.approx(0.0 if lost == "all" else 0.5, abs=0.06)
    assert back.coverage == pytest.approx(0.0 if lost == "all" else 0.95, abs=0.06)


def test_frames_are_chosen_evenly_with_both_ends():
    assert evenly((4, 5, 6), 5) == (4, 5, 6)
    assert evenly(tuple(range(11)), 3) == (0, 5, 10)


def test_weighted_median():
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0])) == 2.0
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([5.0, 1.0, 1.0])) == 3.0
    assert weighted_median(np.zeros(0), np.zeros(0)) == 0.0
