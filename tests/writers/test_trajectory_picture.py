from __future__ import annotations

import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3stream.drawing import START, principal_plane
from da3stream.writers import create_writers
from da3stream.writers.trajectory_picture import ACCEPTED, AFTER, BEFORE, REFUSED, draw_optimised

from .plane_scene import blocks_of, write
from .test_loop_closures import closure

SIZE = (800, 700)


def laps(frames: int = 200) -> np.ndarray:
    """(N, 3) two laps round a flat ellipse in x and y."""
    angle = np.linspace(0, 4 * np.pi, frames)
    return np.stack([4 * np.cos(angle), 2 * np.sin(angle), 0 * angle], axis=1)


def drifted(path: np.ndarray) -> np.ndarray:
    return path[0] + (path - path[0]) * np.linspace(1, 1.3, len(path))[:, None]


def pixels_of(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(K, 2) rows and columns inside the axes that have about this colour: thin lines are smoothed."""
    return np.argwhere((np.abs(image[66:-70, 90:-30] - np.array(colour)) < 40).all(-1))


def draw(before: np.ndarray, after: np.ndarray, **options) -> np.ndarray:
    options = {"accepted": [], "refused": [], "is_metric": True, **options}
    return draw_optimised(before, after, size=SIZE, **options)


@pytest.mark.parametrize("seed", range(3))
def test_the_view_is_from_above_however_the_world_lies(seed):
    turn = Rotation.random(random_state=seed).as_matrix()
    image = draw(laps() @ turn.T, laps() @ turn.T)
    assert image.shape == (700, 800, 3)
    height, width = np.ptp(pixels_of(image, AFTER), axis=0)
    assert width > 500
    assert height == pytest.approx(width / 2, abs=6)


def test_both_paths_share_one_scale():
    image = draw(drifted(laps()), laps())
    before, after = (np.ptp(pixels_of(image, colour), axis=0)[1] for colour in (BEFORE, AFTER))
    assert before > 1.1 * after


def test_loops_are_lines_long_before_and_short_after():
    before, after = drifted(laps()), laps()
    without = draw(before, after)
    assert len(pixels_of(without, ACCEPTED)) == len(pixels_of(without, REFUSED)) == 0
    with_loops = draw(before, after, accepted=[(150, 50)], refused=[(120, 70)])
    assert len(pixels_of(with_loops, ACCEPTED)) > 20
    assert len(pixels_of(with_loops, REFUSED)) > 100
    closed = draw(after, after, accepted=[(150, 50)])
    assert len(pixels_of(closed, ACCEPTED)) < len(pixels_of(with_loops, ACCEPTED))


def test_the_unit_is_said():
    metres, units = (draw(laps(), laps(), is_metric=is_metric) for is_metric in (True, False))
    assert not np.array_equal(metres[-40:], units[-40:])
    assert np.array_equal(metres[64:-70, 90:], units[64:-70, 90:])


@pytest.mark.parametrize("path", [np.zeros((1, 3)), np.full((5, 3), 7.0), 1e-7 * laps(), 1e7 * laps()])
def test_degenerate_and_extreme_paths_are_drawn(path):
    assert len(pixels_of(draw(path, path), START)) > 20


def test_no_frames_give_empty_axes():
    image = draw(np.zeros((0, 3)), np.zeros((0, 3)))
    assert len(pixels_of(image, START)) == len(pixels_of(image, AFTER)) == 0
    assert (image[66:-70, 90:-30] < 255).any()


def test_the_writer_draws_what_the_context_knows(make_context, outputs):
    context = make_context(frames=24)
    context = replace(
        context,
        positions_before=drifted(context.positions_in_world),
        loops=(closure(20, 2, chunk=4), closure(22, 1, reason="alike")),
        loops_used={4: True},
    )
    (writer,) = create_writers(["trajectory"], context)
    write(writer, blocks_of(24))
    image = cv2.imread(str(outputs.root / "trajectory.png"))[..., ::-1]
    expected = draw_optimised(
        context.positions_before,
        context.positions_in_world,
        accepted=[(20, 2)],
        refused=[(22, 1)],
        is_metric=True,
    )
    assert np.array_equal(image, expected)


def test_without_an_optimisation_both_paths_are_one(make_context, outputs):
    (writer,) = create_writers(["trajectory"], make_context(frames=24))
    write(writer, blocks_of(24))
    image = cv2.imread(str(outputs.root / "trajectory.png"))[..., ::-1]
    positions = make_context(frames=24).positions_in_world
    expected = draw_optimised(positions, positions, accepted=[], refused=[], is_metric=True)
    assert np.array_equal(image, expected)


def test_the_plane_of_a_long_path_takes_memory_in_proportion_to_it() -> None:
    rng = np.random.default_rng(0)
    positions = np.cumsum(rng.normal(size=(4000, 3)) * [1, 0.01, 1], axis=0)
    tracemalloc.start()
    plane = principal_plane(positions)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 20 * positions.nbytes
    assert np.abs(plane[1]).max() < 0.1, "the level directions"


@pytest.mark.parametrize("count", [1, 2])
def test_few_positions_have_a_plane(count: int) -> None:
    plane = principal_plane(np.array([[0.0, 0, 0], [1.0, 2, 3]])[:count])
    np.testing.assert_allclose(plane.T @ plane, np.eye(2), atol=1e-12)
