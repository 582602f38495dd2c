"""The clock of the timeline, and the views of the user's camera."""

from __future__ import annotations

import numpy as np
import pytest

from da3stream.viewing.playback import Playback, flying_view, starting_view, view_from_above

UP = np.array([0.0, -1.0, 0.0])


def straight_path(frames: int) -> np.ndarray:
    """(N, 3, 4) cameras that look along z and drive a metre a frame."""
    cameras = np.broadcast_to(np.eye(3, 4), (frames, 3, 4)).copy()
    cameras[:, 2, 3] = np.arange(frames)
    return cameras


def test_frames_follow_the_clock_and_stop_at_the_last_one() -> None:
    playback = Playback(30)
    playback.play(100.0)
    assert [playback.frame_at(100.0 + s) for s in (0.0, 0.95, 2.0)] == [0, 9, 20]
    assert playback.frame_at(103.5) == 29
    assert not playback.is_playing
    playback.play(200.0)
    assert playback.frame_at(200.15) == 1


def test_pausing_keeps_the_frame_and_seeking_goes_on_from_there() -> None:
    playback = Playback(100)
    playback.play(0.0)
    playback.pause(2.0)
    assert playback.frame_at(50.0) == 20
    playback.seek(70, 50.0)
    playback.play(60.0)
    playback.set_fps(20.0, 60.5)
    assert playback.frame_at(61.0) == 85
    playback.seek(1000, 61.0)
    assert playback.frame_at(61.0) == 99


def test_a_flight_has_no_jitter_and_looks_ahead() -> None:
    cameras = straight_path(101)
    cameras[:, 0, 3] += np.random.default_rng(0).normal(0, 0.2, 101)
    positions = np.array([flying_view(cameras, frame, 5.0).position for frame in range(10, 90)])
    assert np.abs(np.diff(positions[:, 0])).max() < 0.5 * np.abs(np.diff(cameras[10:90, 0, 3])).max()
    np.testing.assert_allclose(np.diff(positions[:, 2]), 1.0, atol=1e-9)
    view = flying_view(cameras, 50, 5.0)
    np.testing.assert_allclose(view.look_at - view.position, [0, 0, 5.0], atol=1e-9)
    np.testing.assert_allclose(view.up, UP)


def test_the_first_view_is_behind_and_above_the_first_camera() -> None:
    view = starting_view(straight_path(20), 10.0, UP)
    assert view.position[2] < 2
    assert view.position[1] < 0
    assert view.look_at[2] > 10


@pytest.mark.parametrize("up", [UP, np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])])
def test_the_view_from_above_holds_the_whole_path(up: np.ndarray) -> None:
    centres = np.random.default_rng(1).uniform(-20, 20, (50, 3))
    view = view_from_above(centres, 2.0, up)
    towards = view.look_at - view.position
    distance = np.linalg.norm(towards)
    assert (view.position - centres.mean(axis=0)) @ up > 0.9 * distance
    offsets = centres - view.position
    angle = np.arccos(offsets @ towards / distance / np.linalg.norm(offsets, axis=1))
    assert angle.max() < 0.65
