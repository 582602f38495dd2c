"""nerfstudio/, read by what https://docs.nerf.studio/quickstart/data_conventions.html says."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from plyfile import PlyData

from da3stream.writers.nerfstudio import NerfstudioWriter

from .plane_scene import ORIGINAL, PLANE_NORMAL, PLANE_OFFSET, FakeOriginals, blocks_of, write

TO_OPENCV = np.diag([1.0, -1.0, -1.0])


def transforms(outputs):
    return json.loads((outputs.root / "nerfstudio" / "transforms.json").read_text())


def plane_in(content):
    """Normal and offset of the plane in the world of the transform matrices."""
    applied = np.array(content["applied_transform"])
    assert applied.shape == (3, 4)
    np.testing.assert_allclose(applied[:, :3] @ applied[:, :3].T, np.eye(3))
    assert np.linalg.det(applied[:, :3]) == pytest.approx(1)
    normal = applied[:, :3] @ PLANE_NORMAL
    return normal, PLANE_OFFSET + normal @ applied[:, 3]


def rays(frame, k, x, y):
    """Origin and directions with z-depth 1 of (K,) pixels, as nerfstudio casts them: OpenGL's camera."""
    pose = np.array(frame["transform_matrix"])
    right, up = (x - k["cx"]) / k["fl_x"], -(y - k["cy"]) / k["fl_y"]
    return pose[:3, 3], np.stack([right, up, -np.ones_like(right)], axis=-1) @ pose[:3, :3].T


def write_frames(make_context, blocks, frames=12, **options):
    write(NerfstudioWriter(make_context(frames=frames, **options)), blocks)


@pytest.mark.parametrize("full", [True, False])
def test_depth_along_the_camera_s_rays_meets_the_plane(make_context, outputs, full):
    write_frames(make_context, blocks_of(12, 5, full=full), originals=FakeOriginals())
    content = transforms(outputs)
    normal, offset = plane_in(content)
    assert (content["w"], content["h"]) == ORIGINAL
    for frame in content["frames"]:
        path = outputs.root / "nerfstudio" / frame["depth_file_path"]
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16
        rows, columns = np.mgrid[4 : depth.shape[0] - 4, 4 : depth.shape[1] - 4]
        x = (columns.ravel() + 0.5) * content["w"] / depth.shape[1]
        y = (rows.ravel() + 0.5) * content["h"] / depth.shape[0]
        origin, directions = rays(frame, content, x, y)
        points = origin + directions * (depth[rows, columns].ravel() / 1000)[:, None]
        np.testing.assert_allclose(points @ normal, offset, atol=0.002 if full else 0.01)


def test_points_lie_on_the_plane_in_the_world_of_the_cameras(make_context, outputs):
    write_frames(make_context, blocks_of(12, 5))
    content = transforms(outputs)
    vertex = PlyData.read(outputs.root / "nerfstudio" / content["ply_file_path"])["vertex"]
    points = np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float64)
    normal, offset = plane_in(content)
    np.testing.assert_allclose(points @ normal, offset, atol=1e-4)
    first = vertex["blue"] == 0
    k = {name: content[name] for name in ("fl_x", "fl_y", "cx", "cy")}
    pose = np.array(content["frames"][0]["transform_matrix"])
    in_cam = (points[first] - pose[:3, 3]) @ pose[:3, :3] @ TO_OPENCV
    x = in_cam[:, 0] / in_cam[:, 2] * k["fl_x"] + k["cx"]
    y = in_cam[:, 1] / in_cam[:, 2] * k["fl_y"] + k["cy"]
    np.testing.assert_array_equal(np.floor(x), vertex["red"][first])
    np.testing.assert_array_equal(np.floor(y), vertex["green"][first])


def test_z_is_up_and_the_first_camera_looks_along_y(make_context, outputs):
    write_frames(make_context, blocks_of(12, 5))
    content = transforms(outputs)
    pose = np.array(content["frames"][0]["transform_matrix"])
    np.testing.assert_allclose(pose[:3, :3] @ [0, 1, 0], [0, 0, 1], atol=1e-12)  # its up
    np.testing.assert_allclose(pose[:3, :3] @ [0, 0, -1], [0, 1, 0], atol=1e-12)  # where it looks
    for frame in content["frames"]:
        rotation = np.array(frame["transform_matrix"])[:3, :3]
        assert np.linalg.det(rotation) == pytest.approx(1)
        assert frame["transform_matrix"][3] == [0, 0, 0, 1]
    vertex = PlyData.read(outputs.root / "nerfstudio" / "sparse_pc.ply")["vertex"]
    first = vertex["blue"] == 0
    assert (
        vertex["z"][first & (vertex["green"] < 28)].min() > vertex["z"][first & (vertex["green"] > 31)].max()
    )


def test_every_documented_field_is_there(make_context, outputs):
    write_frames(make_context, blocks_of(12, 5), originals=FakeOriginals())
    content = transforms(outputs)
    shared = {"camera_model", "fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "p1", "p2"}
    others = {"applied_transform", "ply_file_path", "depth_unit_scale_factor", "frames"}
    assert content.keys() == shared | others
    assert content["camera_model"] == "OPENCV"
    for number, frame in enumerate(content["frames"]):
        assert frame["file_path"] == f"images/{3 * number:06d}.jpg"
        image = (outputs.root / "nerfstudio" / frame["file_path"]).read_bytes()
        assert image == b"original %d" % (3 * number)
        assert (outputs.root / "nerfstudio" / frame["depth_file_path"]).is_file()


def test_cameras_that_differ_have_fields_of_their_own(make_context, outputs):
    blocks = blocks_of(12, 6)
    wider = blocks[1].intrinsics.copy()
    wider[:, 0, 0] *= 0.9
    write_frames(make_context, [blocks[0], replace(blocks[1], intrinsics=wider)])
    content = transforms(outputs)
    assert "fl_x" not in content
    focal = [frame["fl_x"] for frame in content["frames"]]
    assert focal[0] == pytest.approx(focal[11] / 0.9)
    assert all({"fl_x", "fl_y", "cx", "cy", "w", "h"} <= frame.keys() for frame in content["frames"])


def test_cameras_that_differ_by_rounding_are_one(make_context, outputs):
    block = blocks_of(12, 12)[0]
    noise = 1 + 1e-12 * np.random.default_rng(0).standard_normal(block.intrinsics.shape)
    write_frames(make_context, [replace(block, intrinsics=block.intrinsics * noise)])
    assert "fl_x" in transforms(outputs)


def test_chosen_images_keep_their_own_pose_and_depth(make_context, outputs):
    write_frames(make_context, blocks_of(12, 12))
    everything = {frame["file_path"]: frame for frame in transforms(outputs)["frames"]}
    write_frames(make_context, blocks_of(12, 5), colmap_images=4)
    chosen = transforms(outputs)["frames"]
    assert len(chosen) == 4
    for frame in chosen:
        assert frame == everything[frame["file_path"]]
    files = sorted(path.name for path in (outputs.root / "nerfstudio" / "depths").iterdir())
    assert files == [frame["depth_file_path"].removeprefix("depths/") for frame in chosen]


def scaled(block, factor):
    """The same in another unit."""
    return replace(block, depth=block.depth * np.float32(factor), full_depth=None, full_confidence=None)


@pytest.mark.parametrize("factor", [1, 1000, 0.001])
def test_depth_of_any_unit_is_kept_and_transforms_json_says_how(make_context, outputs, factor):
    (block,) = blocks_of(3)
    writer = NerfstudioWriter(replace(make_context(frames=3), is_metric=False))
    write(writer, [scaled(block, factor)])
    step = transforms(outputs)["depth_unit_scale_factor"]
    assert writer.report == {"depth_unit_scale_factor": step, "depth_pixels_too_far": 0}
    told = [f"--depth-unit-scale-factor {step:g}" in line for line in writer.warnings]
    assert told == ([] if factor == 1 else [True])
    assert (step == 0.001) == (factor == 1)
    for index, frame in enumerate(transforms(outputs)["frames"]):
        values = cv2.imread(str(outputs.root / "nerfstudio" / frame["depth_file_path"]), cv2.IMREAD_UNCHANGED)
        assert values.dtype == np.uint16
        assert (values > 0).all()
        assert np.median(values) * step == pytest.approx(np.median(block.depth[index]) * factor, rel=0.02)


def test_metric_depth_stays_in_millimetres_and_what_is_too_far_is_told(make_context, outputs):
    (block,) = blocks_of(3)
    writer = NerfstudioWriter(make_context(frames=3))
    far = block.depth.copy()
    far[:, :5] = 70.0
    write(writer, [replace(block, depth=far)])
    assert transforms(outputs)["depth_unit_scale_factor"] == 0.001
    (warning,) = writer.warnings
    share = float(warning.split()[1].rstrip("%")) / 100
    assert share == pytest.approx((far > 65.535).mean(), rel=0.5)
    assert writer.report["depth_pixels_too_far"] > 0
