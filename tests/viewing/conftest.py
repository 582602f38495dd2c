"""A small run of a simulated street with a loop, and an empty page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import da3stream
from da3stream.geometry.sim3 import Sim3
from da3stream.store import FollowedRun
from da3stream.synthetic.capture import (
    SimulatedDescriptor,
    SimulatedEstimator,
    SimulatedSource,
    SimulatedWorld,
)
from da3stream.synthetic.paths import street_laps

FRAMES = 70
OPTIONS = {
    "colmap_points": "dense",
    "chunk_size": 16,
    "overlap": 8,
    "coarse": 0,
    "confidence_percentile": 0.0,
}


@pytest.fixture(scope="session")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run directory of 70 frames in 8 chunks. Leave it as it is."""
    folder = tmp_path_factory.mktemp("viewed") / "street"
    make(folder)
    return folder


@pytest.fixture(scope="session")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, pulled to prior poses in a frame far away from its own."""
    root = tmp_path_factory.mktemp("pulled")
    far = Sim3.exp(np.array([0.4, 0.2, -2.0, 900.0, -300.0, 40.0, 0.0]))
    poses = far.move_pose(street_laps(FRAMES))[:, :3].reshape(-1, 12)
    np.savetxt(root / "poses.txt", poses, fmt="%.17g")
    make(root / "street", poses=str(root / "poses.txt"), poses_as="prior")
    return root / "street"


def make(folder: Path, **options: Any) -> None:
    world = SimulatedWorld(street_laps(FRAMES), seed=7, size=(14, 42), hfov_deg=82)
    da3stream.reconstruct(
        SimulatedSource(world),
        folder,
        estimator=SimulatedEstimator(world, seed=3, level=1.0),
        descriptor=SimulatedDescriptor(world, dim=64),
        config=da3stream.load_config(None, {**OPTIONS, **options}),
    )


@pytest.fixture
def run(viewed: Path) -> FollowedRun:
    return FollowedRun(viewed)


@pytest.fixture
def pulled_run(pulled: Path) -> FollowedRun:
    return FollowedRun(pulled)


@pytest.fixture
def server() -> Iterator[Any]:
    """An empty page on a port of its own."""
    pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")
    from da3stream.viewing.library import start_server, stop_server

    page = start_server("127.0.0.1", 0)
    yield page
    stop_server(page)


@pytest.fixture(autouse=True)
def nobody_looks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Viewers do not wait for a browser where there will be none."""
    if "page" not in request.fixturenames:
        monkeypatch.setattr("da3stream.viewing.viewer.BROWSER_WAIT_S", 0.0)
