"""Worlds along the two example trajectories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from da3stream.evaluation import load_trajectory
from da3stream.synthetic.capture import SimulatedWorld
from da3stream.synthetic.demo_video import DemoCapture, demo_capture
from da3stream.synthetic.paths import hand_held_orbit

TRAJECTORIES = Path(__file__).parents[1] / "fixtures" / "trajectories"


@pytest.fixture(scope="session")
def street() -> SimulatedWorld:
    """Two laps of a street, 1.6 km."""
    return SimulatedWorld(load_trajectory(TRAJECTORIES / "city_loop.txt").world_from_cam, seed=7)


@pytest.fixture(scope="session")
def room() -> SimulatedWorld:
    """A hand-held scan of a room."""
    poses = load_trajectory(TRAJECTORIES / "chess.txt").world_from_cam
    return SimulatedWorld(poses, seed=7, indoor=True, size=(18, 24), hfov_deg=60.0)


@pytest.fixture(scope="session")
def small_room() -> SimulatedWorld:
    """A room seen from forty places, drawn quickly."""
    return SimulatedWorld(hand_held_orbit(40), seed=3, indoor=True, size=(9, 12), hfov_deg=65.0)


@pytest.fixture(scope="session")
def demo() -> DemoCapture:
    """The capture of the demo command; its textures take a second to draw."""
    return demo_capture()


@pytest.fixture(scope="session")
def small_demo(demo) -> DemoCapture:
    """Every other frame of it, in small."""
    return replace(demo, camera=demo.camera.resized(160, 90), world_from_cam=demo.world_from_cam[::2])


@pytest.fixture
def blank():
    """Images without content for the simulated estimator and descriptor, which do not look at them."""
    return lambda count: np.zeros((count, 2, 2, 3), np.uint8)
