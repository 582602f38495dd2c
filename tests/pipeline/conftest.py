"""A simulated capture: everything but the pixels is real."""

from __future__ import annotations

import pytest

from da3stream import Config, load_config
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld
from da3stream.synthetic.paths import street_laps

from .doubles import FRAMES


@pytest.fixture(scope="session")
def world() -> SimulatedWorld:
    return SimulatedWorld(street_laps(FRAMES), seed=7, size=(14, 42), hfov_deg=82)


@pytest.fixture
def source(world: SimulatedWorld) -> SimulatedSource:
    return SimulatedSource(world)


@pytest.fixture
def config() -> Config:
    return load_config(None, {"colmap_points": "dense", "chunk_size": 16, "overlap": 8})
