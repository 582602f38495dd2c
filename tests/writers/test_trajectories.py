"""camera_poses.txt, camera_poses.ply, intrinsic.txt, trajectory_tum.txt and trajectory_kitti.txt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evo.tools import file_interface
from plyfile import PlyData

from da3stream.writers.kitti import KittiWriter
from da3stream.writers.poses import PosesWriter, time_colors
from da3stream.writers.tum import TumWriter

from .plane_scene import INTRINSICS, blocks_of, plane_block, write

FRAMES = 24


@pytest.fixture
def poses() -> np.ndarray:
    return np.concatenate([block.world_from_cam for block in blocks_of(FRAMES)])


def test_camera_poses_read_back_exactly(make_context, outputs, poses):
    write(PosesWriter(make_context()), blocks_of(FRAMES))
    read = np.loadtxt(outputs.root / "camera_poses.txt", dtype=np.float64)
    assert read.shape == (FRAMES, 16)
    assert np.array_equal(read.reshape(-1, 4, 4), poses)


def test_intrinsics_are_those_of_the_processing_resolution(make_context, outputs):
    write(PosesWriter(make_context()), blocks_of(FRAMES))
    read = np.loadtxt(outputs.root / "intrinsic.txt")
    assert np.array_equal(read, np.tile(INTRINSICS[[0, 1, 0, 1], [0, 1, 2, 2]], (FRAMES, 1)))


def test_camera_centres_are_an_ascii_ply_that_others_read(make_context, outputs, poses):
    write(PosesWriter(make_context()), blocks_of(FRAMES))
    ply = PlyData.read(outputs.root / "camera_poses.ply")
    vertices = ply["vertex"]
    assert ply.text
    assert len(vertices) == FRAMES
    read = np.stack([vertices[axis] for axis in "xyz"], axis=-1)
    assert np.array_equal(read, poses[:, :3, 3].astype(np.float32))


def test_camera_colours_run_along_time(make_context, outputs):
    write(PosesWriter(make_context()), blocks_of(FRAMES))
    vertices = PlyData.read(outputs.root / "camera_poses.ply")["vertex"]
    read = np.stack([vertices[channel] for channel in ("red", "green", "blue")], axis=-1)
    assert np.array_equal(read, time_colors(np.arange(FRAMES) / (FRAMES - 1)))
    luminance = read @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()


def test_colours_of_a_single_frame_are_defined(make_context, outputs):
    write(PosesWriter(make_context(frames=1)), [plane_block(0, 1, frames=1)])
    assert len(PlyData.read(outputs.root / "camera_poses.ply")["vertex"]) == 1


def test_tum_is_read_by_evo(make_context, outputs, poses):
    write(TumWriter(make_context()), blocks_of(FRAMES))
    read = file_interface.read_tum_trajectory_file(outputs.root / "trajectory_tum.txt")
    assert read.check()[0]
    assert np.array_equal(read.timestamps, np.arange(FRAMES) / 29.97)
    assert np.array_equal(read.positions_xyz, poses[:, :3, 3])
    assert np.allclose(read.poses_se3, poses, rtol=0, atol=1e-14)


def test_tum_has_eight_columns_and_single_spaces(make_context, outputs):
    write(TumWriter(make_context()), blocks_of(FRAMES))
    lines = (outputs.root / "trajectory_tum.txt").read_text().splitlines()
    assert len(lines) == FRAMES
    for line in lines:
        assert line == " ".join(line.split())
        assert len(line.split(" ")) == 8


@pytest.mark.parametrize("timestamp_s", [0.0, 1e-7, 1 / 3, 1_700_000_000.123456, 1e22])
def test_tum_times_are_exact_and_without_exponent(make_context, outputs, timestamp_s):
    block = replace(plane_block(0, 1), timestamp_s=np.array([timestamp_s]))
    write(TumWriter(make_context()), [block])
    column = (outputs.root / "trajectory_tum.txt").read_text().split()[0]
    assert float(column) == timestamp_s
    assert "e" not in column


def test_kitti_is_read_by_evo(make_context, outputs, poses):
    write(KittiWriter(make_context()), blocks_of(FRAMES))
    read = file_interface.read_kitti_poses_file(outputs.root / "trajectory_kitti.txt")
    assert read.check()[0]
    assert np.array_equal(np.array(read.poses_se3), poses)


@pytest.mark.parametrize("writer_class", [PosesWriter, TumWriter, KittiWriter])
def test_a_pose_that_is_not_finite_is_refused(make_context, writer_class):
    block = plane_block(0, 2)
    poses = block.world_from_cam.copy()
    poses[1, 0, 3] = np.nan
    writer = writer_class(make_context())
    with pytest.raises(ValueError, match="finite"):
        writer.add(replace(block, world_from_cam=poses))
    writer.abort()


@pytest.mark.parametrize("number", [1e-308, 5e-324, 1.7976931348623157e308, -0.0, 0.1 + 0.2])
def test_extreme_numbers_read_back_exactly(make_context, outputs, number):
    block = plane_block(0, 1)
    pose = block.world_from_cam.copy()
    pose[0, 0, 3] = number
    with np.errstate(over="ignore"):
        write(PosesWriter(make_context()), [replace(block, world_from_cam=pose)])
    read = np.loadtxt(outputs.root / "camera_poses.txt").reshape(4, 4)
    assert np.array_equal(read, pose[0])
