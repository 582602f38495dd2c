"""Pictures of depth: near is warm, sky is black, and a few wild values do not decide the range."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from da3stream.writers.depth_vis import coloured_depth, save_picture


def ramp() -> np.ndarray:
    """(20, 50) depth that grows from left to right."""
    return np.tile(np.linspace(1, 5, 50, dtype=np.float32), (20, 1))


def test_near_is_red_and_far_is_blue() -> None:
    colours = coloured_depth(ramp()).astype(int)
    red, _, blue = np.moveaxis(colours, -1, 0)
    assert (red[:, :5] > blue[:, :5] + 80).all()
    assert (blue[:, 35:] > red[:, 35:]).all()


def test_sky_and_what_is_no_depth_are_black() -> None:
    depth, sky = ramp(), np.zeros((20, 50), dtype=bool)
    sky[:3] = True
    depth[5], depth[6], depth[7] = np.nan, np.inf, 0
    black = (coloured_depth(depth, sky) == 0).all(axis=-1)
    assert set(np.flatnonzero(black.all(axis=1))) == {0, 1, 2, 5, 6, 7}
    assert not black[8:].any()


def test_wild_values_do_not_decide_the_range() -> None:
    depth, expected = ramp(), coloured_depth(ramp()).astype(int)
    depth[0, 0], depth[0, 1] = 1e-6, 1e6
    assert np.abs(coloured_depth(depth)[1:].astype(int) - expected[1:]).max() <= 40


def test_nothing_to_see_is_no_error() -> None:
    assert not coloured_depth(np.zeros((4, 6), np.float32)).any()
    assert len(np.unique(coloured_depth(np.full((4, 6), 2, np.float32)).reshape(-1, 3), axis=0)) == 1


def test_the_picture_shows_the_image_beside_its_depth(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 50, 3), dtype=np.uint8)
    save_picture(tmp_path / "a.png", image, ramp(), None)
    shown = cv2.cvtColor(cv2.imread(str(tmp_path / "a.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(shown[:, :50], image)
    np.testing.assert_array_equal(shown[:, 50:], coloured_depth(ramp()))
