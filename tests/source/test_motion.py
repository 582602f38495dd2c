"""Which frames show motion, on images whose motion is known."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from da3stream.source.motion import STILL, MotionFilter, grey_image, grey_size, median_flow

WIDTH, HEIGHT = 192, 108
THRESHOLD = 0.01
STEP_PX = 0.01 * WIDTH


def texture(seed: int = 1, width: int = 3 * WIDTH) -> np.ndarray:
    """A grey texture with detail at several scales."""
    rng = np.random.default_rng(seed)
    grey = np.full((HEIGHT + 64, width), 128, np.float32)
    for cell_px in (3, 6, 12):
        noise = rng.normal(size=(grey.shape[0] // cell_px + 2, width // cell_px + 2)).astype(np.float32)
        grey += 20 * cv2.resize(noise, (width, grey.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(grey, 0, 255).astype(np.uint8)


TEXTURE = texture()


def view(x_px: float, turn_deg: float = 0.0) -> np.ndarray:
    """The texture from a camera that has moved to the right by `x_px` and turned about its axis."""
    matrix = cv2.getRotationMatrix2D((x_px + WIDTH / 2, HEIGHT / 2), turn_deg, 1.0)
    matrix[0, 2] -= x_px
    return cv2.warpAffine(TEXTURE, matrix, (WIDTH, HEIGHT))


def noisy(image: np.ndarray, rng: np.random.Generator, sigma: float = 5) -> np.ndarray:
    return np.clip(np.rint(image + rng.normal(0, sigma, image.shape)), 0, 255).astype(np.uint8)


def kept(images: list[np.ndarray], threshold: float = THRESHOLD) -> list[int]:
    return list(MotionFilter[int](threshold, images.__getitem__)(range(len(images))))


@pytest.mark.parametrize("shift_px", [0.5, 2.0, 10.0])
def test_flow_is_the_shift(shift_px: float) -> None:
    assert median_flow(view(0), view(shift_px)) * WIDTH == pytest.approx(shift_px, abs=0.1)


def test_slow_motion_adds_up_and_is_thinned_evenly() -> None:
    taken = kept([view(0.1 * STEP_PX * index) for index in range(101)])
    assert set(np.diff(taken[:-1])) <= {9, 10, 11}
    assert taken[-1] == 100  # the last one, before its turn


def test_fast_motion_is_taken_whole() -> None:
    assert kept([view(1.5 * STEP_PX * index) for index in range(20)]) == list(range(20))


def test_a_turn_about_the_axis_is_taken_whole() -> None:
    assert kept([view(0, turn_deg=3 * index) for index in range(20)]) == list(range(20))


def test_standing_is_dropped_with_noise_and_what_moves_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    standing = []
    for index in range(30):
        image = view(50).copy()
        image[20:80, 5 * index : 5 * index + 40] = texture(seed=2)[:60, :40]  # somebody walks by
        standing.append(noisy(image, rng))
    images = [view(0), view(25), *standing, view(75), view(100)]
    assert kept(images) == [0, 1, 2, 32, 33]


def test_noise_alone_stays_below_what_counts_as_still() -> None:
    rng = np.random.default_rng(0)
    assert max(median_flow(noisy(view(0), rng), noisy(view(0), rng)) for _ in range(10)) < STILL


def test_the_last_frame_is_taken_if_something_moved_since() -> None:
    assert kept([view(0), view(0), view(0.5 * STEP_PX)]) == [0, 2]
    assert kept([view(0), view(0.5 * STEP_PX), view(0)]) == [0]


def test_what_cannot_be_followed_is_taken() -> None:
    other = texture(seed=9)[:HEIGHT, :WIDTH]
    blurred = cv2.GaussianBlur(view(0), (0, 0), 12)
    black = np.zeros((HEIGHT, WIDTH), np.uint8)
    for before, now in ((view(0), other), (view(0), blurred), (view(0), view(120)), (black, black)):
        assert median_flow(before, now) == math.inf
    assert kept([view(0), other, black, black]) == [0, 1, 2, 3]


def test_the_number_of_threads_does_not_matter() -> None:
    threads = cv2.getNumThreads()
    try:
        flows = []
        for number in (1, 4):
            cv2.setNumThreads(number)
            flows.append([median_flow(view(0), view(x)) for x in (0.3, 3, 9)])
    finally:
        cv2.setNumThreads(threads)
    assert flows[0] == flows[1]


def test_counts_and_laziness() -> None:
    images = [view(0), view(0), view(20), view(40)]
    motion = MotionFilter[int](THRESHOLD, images.__getitem__)
    taken = motion(iter(range(4)))
    assert [next(taken), next(taken)] == [0, 2]
    assert (motion.offered, motion.kept) == (3, 2)


def test_the_grey_image_has_the_longer_side_that_flow_is_measured_in() -> None:
    assert grey_size(1920, 1080) == (192, 108)
    assert grey_size(1080, 1920) == (108, 192)
    assert grey_size(4000, 2) == (192, 1)
    assert grey_image(np.zeros((720, 1280, 3), np.uint8)).shape == (108, 192)
