"""Dense depth on a real drive with true poses in metres."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from da3stream.estimation.classical.dense import DenseMaps, dense_depth
from da3stream.geometry.camera import rescale_intrinsics, unproject
from da3stream.geometry.rigid3 import invert

FRAMES = 9
CAMERA_HEIGHT_M = 1.65
"""Of the KITTI car above the road (Geiger et al., IJRR 2013)."""


@pytest.fixture(scope="module")
def folder() -> Path:
    shared = Path(os.environ.get("DA3STREAM_SHARED", Path(__file__).parents[4] / "shared"))
    folder = shared / "data" / "kitti_seq1"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; DA3STREAM_SHARED names the one with the clips")
    return folder


@pytest.fixture(scope="module")
def world_from_cam(folder: Path) -> np.ndarray:
    return np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)[:FRAMES]


@pytest.fixture(scope="module")
def drive(folder: Path, world_from_cam: np.ndarray) -> DenseMaps:
    paths = sorted((folder / "image_l").glob("*.png"))[:FRAMES]
    images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    matrix = np.array([[707.0912, 0, 602.3873], [0, 707.0912, 183.6104], [0, 0, 1]])
    height, width = images[0].shape[:2]
    small = np.stack([cv2.resize(image, (504, 152), interpolation=cv2.INTER_AREA) for image in images])
    intrinsics = rescale_intrinsics(np.stack([matrix] * FRAMES), (width, height), (504, 152))
    return dense_depth(small, intrinsics, invert(world_from_cam))


def fitted_plane(points: np.ndarray) -> np.ndarray:
    """a, b, c of y = a + b x + c z, robustly (Geman-McClure, 5 cm)."""
    design = np.column_stack([np.ones(len(points)), points[:, 0], points[:, 2]])
    weight = np.ones(len(points))
    for _ in range(10):
        plane = np.linalg.lstsq(design * weight[:, None], points[:, 1] * weight, rcond=None)[0]
        weight = 1 / (1 + np.square((points[:, 1] - design @ plane) / 0.05))
    return plane


@pytest.mark.data
def test_road_is_a_plane_below_the_camera_at_its_true_height(drive: DenseMaps) -> None:
    middle = FRAMES // 2
    points = unproject(drive.depth[middle], drive.intrinsics[middle])
    height, width = drive.depth.shape[1:]
    ahead = np.s_[int(0.62 * height) : int(0.9 * height), int(0.42 * width) : int(0.62 * width)]
    on_road = points[ahead][drive.confidence[middle][ahead] >= 2]
    assert len(on_road) > 400
    camera_height_m, across, along = fitted_plane(on_road)
    assert camera_height_m == pytest.approx(CAMERA_HEIGHT_M, abs=0.2)
    assert abs(across) < 0.06
    assert abs(along) < 0.04
    residual_m = on_road[:, 1] - camera_height_m - across * on_road[:, 0] - along * on_road[:, 2]
    assert np.median(np.abs(residual_m)) < 0.12


@pytest.mark.data
def test_half_of_the_pixels_are_measured(drive: DenseMaps) -> None:
    assert (drive.confidence[FRAMES // 2] >= 2).mean() > 0.5


@pytest.mark.data
def test_direction_of_travel_is_far_and_never_trusted_to_be_near(drive: DenseMaps) -> None:
    middle = FRAMES // 2
    cx, cy = drive.intrinsics[middle][:2, 2].astype(int)
    around_epipole = np.s_[cy - 8 : cy - 2, cx - 6 : cx + 6]
    trusted = drive.confidence[middle][around_epipole] >= 5
    assert (drive.depth[middle][around_epipole][trusted] > 15).all()
    assert np.median(drive.depth[middle][around_epipole]) > 20
