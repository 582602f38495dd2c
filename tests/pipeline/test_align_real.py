"""The ground of a real street, against the true path of the car."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import da3stream
from da3stream import load_config, pipeline

FRAMES = 12


@pytest.mark.slow
@pytest.mark.data
def test_a_street_comes_out_level(shared: Path, tmp_path: Path) -> None:
    """The car drives along the road: whatever its camera's pitch, the road's normal is square to its path."""
    kitti, folder = shared / "data" / "kitti_seq1", tmp_path / "images"
    folder.mkdir()
    for image in sorted((kitti / "image_l").iterdir())[:FRAMES]:
        shutil.copy(image, folder)
    options = {"model": "classical", "export": "poses", "intrinsics": "707.0912,707.0912,602.3873,183.6104"}
    da3stream.reconstruct(folder, tmp_path / "run", config=load_config(None, options))
    pipeline.align(tmp_path / "run", up="plane")
    poses = np.loadtxt(tmp_path / "run" / "camera_poses.txt").reshape(-1, 4, 4)
    true_centres = np.loadtxt(kitti / "poses.txt").reshape(-1, 3, 4)[:FRAMES, :, 3]
    path_in_cam = true_centres[-1] - true_centres[0]  # the true world is the first camera
    path = poses[0, :3, :3] @ path_in_cam / np.linalg.norm(path_in_cam)
    assert abs(np.degrees(np.arcsin(path[1]))) < 1.0
    assert np.degrees(np.arccos(poses[0, 1, 1])) < 3.5  # the camera stands upright, the road is cambered
