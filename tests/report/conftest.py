"""A finished run with loops, coarse chunks and rejected candidates, whose report is looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from da3stream.geometry.sim3 import Sim3
from tests.faults.capture import capture, reconstruct
from tests.faults.doubles import WatchedFileSystem


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    reconstruct(capture(), folder, WatchedFileSystem())
    return folder


@pytest.fixture(scope="session")
def prior_run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was pulled to prior poses in a frame far away from its own."""
    world, root = capture(), tmp_path_factory.mktemp("priors")
    far = Sim3.exp(np.array([0.4, 0.2, -2.0, 900.0, -300.0, 40.0, 0.0]))
    poses = far.move_pose(world.world_from_cam)[:, :3].reshape(-1, 12)
    np.savetxt(root / "poses.txt", poses, fmt="%.17g")
    reconstruct(world, root / "run", WatchedFileSystem(), poses=str(root / "poses.txt"), poses_as="prior")
    return root / "run"
