"""scene.glb, as other programs read it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pygltflib
import pytest

from da3stream.writers.glb import GlbWriter

from .plane_scene import HEIGHT, INTRINSICS, PLANE_NORMAL, PLANE_OFFSET, WIDTH, arc_pose, blocks_of, write

FLIP = np.diag([1.0, -1.0, -1.0])
TYPES = {pygltflib.FLOAT: np.dtype("<f4"), pygltflib.UNSIGNED_BYTE: np.dtype("u1")}
VERTICES_A_CAMERA = 22
"""Ends of the eleven segments of its outline."""


def read(path):
    """Arrays of every node's primitive by node and attribute, and the modes in which they are drawn."""
    document = pygltflib.GLTF2().load(str(path))
    found = {}
    for node in document.nodes:
        if node.mesh is None:
            continue
        (primitive,) = document.meshes[node.mesh].primitives
        assert node.matrix is None
        found[node.name, "mode"] = primitive.mode
        for attribute in ("POSITION", "COLOR_0"):
            found[node.name, attribute] = array_of(document, getattr(primitive.attributes, attribute))
    return found


def array_of(document, number):
    accessor = document.accessors[number]
    view = document.bufferViews[accessor.bufferView]
    width = {"VEC3": 3, "VEC4": 4}[accessor.type]
    start = (view.byteOffset or 0) + (accessor.byteOffset or 0)
    flat = np.frombuffer(document.binary_blob(), TYPES[accessor.componentType], accessor.count * width, start)
    return flat.reshape(-1, width)


@pytest.fixture
def scene(make_context, outputs):
    write(GlbWriter(make_context(frames=24, confidence_percentile=0.0)), blocks_of(24))
    return read(outputs.root / "scene.glb")


def test_pygltflib_finds_points_and_lines(scene):
    assert scene["points", "mode"] == pygltflib.POINTS
    assert scene["cameras", "mode"] == pygltflib.LINES
    assert len(scene["points", "POSITION"]) == 24 * 28 * 19
    assert len(scene["cameras", "POSITION"]) == 24 * VERTICES_A_CAMERA


def test_points_lie_on_the_plane_of_the_world_turned_upright(scene):
    points_in_world = scene["points", "POSITION"] @ FLIP
    np.testing.assert_allclose(points_in_world @ PLANE_NORMAL, PLANE_OFFSET, atol=1e-4)


def test_every_point_has_the_colour_of_the_pixel_that_sees_it(scene):
    colors, points = scene["points", "COLOR_0"], scene["points", "POSITION"]
    first = colors[:, 2] == 0  # blue names the frame
    in_cam = points[first] @ FLIP  # camera 0 is the world
    pixels = in_cam[:, :2] / in_cam[:, 2:] * INTRINSICS[[0, 1], [0, 1]] + INTRINSICS[:2, 2]
    np.testing.assert_array_equal(np.floor(pixels), colors[first, :2])
    assert (colors[:, 3] == 255).all()


def test_what_is_above_the_camera_has_larger_y(scene):
    points, colors = scene["points", "POSITION"], scene["points", "COLOR_0"]
    first = colors[:, 2] == 0
    upper = colors[:, 1] < INTRINSICS[1, 2] - 1
    lower = colors[:, 1] > INTRINSICS[1, 2] + 1
    assert points[first & upper, 1].min() > 0 > points[first & lower, 1].max()
    assert (points[first, 2] < 0).all()  # before the camera is away from the viewer


def test_cameras_stand_where_they_were_and_look_where_they_looked(scene):
    outlines = scene["cameras", "POSITION"].reshape(24, VERTICES_A_CAMERA, 3) @ FLIP
    length = 0.05 * np.median([np.median(block.depth, axis=(1, 2)) for block in blocks_of(24, 1)])
    x, y = 0.5 * WIDTH / INTRINSICS[0, 0], 0.5 * HEIGHT / INTRINSICS[1, 1]
    for number, outline in enumerate(outlines):
        pose = arc_pose(number / 23)
        in_cam = (outline - pose[:3, 3]) @ pose[:3, :3]
        np.testing.assert_allclose(in_cam[0], 0, atol=1e-5)
        np.testing.assert_allclose(in_cam[1], length * np.array([-x, -y, 1]), atol=1e-5)
        assert in_cam[:, 1].min() == pytest.approx(-1.5 * y * length, abs=1e-5)  # the peak is above


def test_cameras_are_coloured_along_time(scene):
    colors = scene["cameras", "COLOR_0"].reshape(24, VERTICES_A_CAMERA, 4)
    assert colors[0, 0].tolist() == [68, 1, 84, 255]
    assert colors[-1, 0].tolist() == [253, 231, 37, 255]
    assert (colors == colors[:, :1]).all()


def test_points_and_cameras_are_capped(make_context, outputs):
    block = blocks_of(10)[0]
    many = [replace(block, index=block.index + 10 * k) for k in range(50)]
    context = replace(make_context(max_points=300), positions_in_world=np.tile([[0.0, 0, 0]], (500, 1)))
    write(GlbWriter(context), many)
    scene = read(outputs.root / "scene.glb")
    assert 250 <= len(scene["points", "POSITION"]) <= 300
    assert len(scene["cameras", "POSITION"]) == 200 * VERTICES_A_CAMERA


def test_an_empty_run_is_a_scene_without_anything(make_context, outputs):
    write(GlbWriter(make_context(frames=0)), [])
    assert read(outputs.root / "scene.glb") == {}
