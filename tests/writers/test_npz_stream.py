"""npz/ and mini_npz/ of a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from da3stream.errors import MixedImageSizesError
from da3stream.geometry.camera import pixel_rays
from da3stream.writers.npz_stream import MiniNpzWriter, NpzWriter

from .plane_scene import (
    HEIGHT,
    INTRINSICS,
    PLANE_NORMAL,
    PLANE_OFFSET,
    STEP,
    WIDTH,
    arc_pose,
    blocks_of,
    coordinate_image,
    write,
)


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize(("full", "h", "w"), [(True, HEIGHT, WIDTH), (False, 19, 28)])
def test_names_shapes_and_types_are_those_of_da3(make_context, outputs, full, h, w):
    write(NpzWriter(make_context(frames=12)), blocks_of(12, 5, full=full))
    write(MiniNpzWriter(make_context(frames=12)), blocks_of(12, 5, full=full))
    content = load(outputs.root / "npz/results.npz")
    assert {name: (array.shape, array.dtype.name) for name, array in content.items()} == {
        "image": ((12, h, w, 3), "uint8"),
        "depth": ((12, h, w), "float32"),
        "conf": ((12, h, w), "float32"),
        "extrinsics": ((12, 3, 4), "float32"),
        "intrinsics": ((12, 3, 3), "float32"),
    }
    mini = load(outputs.root / "mini_npz/results.npz")
    assert sorted(mini) == ["conf", "depth", "extrinsics", "intrinsics"]
    for name, array in mini.items():
        np.testing.assert_array_equal(array, content[name])


@pytest.mark.parametrize("full", [True, False])
def test_every_pixel_is_a_point_of_the_plane(make_context, outputs, full):
    write(MiniNpzWriter(make_context(frames=12)), blocks_of(12, 5, full=full))
    content = load(outputs.root / "mini_npz/results.npz")
    for depth, extrinsics, k in zip(
        *(content[n] for n in ("depth", "extrinsics", "intrinsics")), strict=True
    ):
        in_cam = pixel_rays(k, *depth.shape) * depth[..., None]
        in_world = (in_cam - extrinsics[:, 3]) @ extrinsics[:, :3]
        np.testing.assert_allclose(in_world @ PLANE_NORMAL, PLANE_OFFSET, atol=1e-4)


def test_extrinsics_take_the_world_to_the_camera(make_context, outputs):
    write(MiniNpzWriter(make_context(frames=12)), blocks_of(12, 5))
    extrinsics = load(outputs.root / "mini_npz/results.npz")["extrinsics"]
    for number, matrix in enumerate(extrinsics):
        pose = arc_pose(number / 11)
        np.testing.assert_allclose(matrix @ np.append(pose[:3, 3], 1), 0, atol=1e-6)
        np.testing.assert_allclose(matrix[:, :3] @ pose[:3, :3], np.eye(3), atol=1e-6)


def test_images_show_what_the_pixels_of_the_depth_map_see(make_context, outputs):
    write(NpzWriter(make_context(frames=3)), blocks_of(3))
    reduced = load(outputs.root / "npz/results.npz")
    np.testing.assert_array_equal(
        reduced["image"][2], coordinate_image(2)[STEP // 2 :: STEP, STEP // 2 :: STEP]
    )
    write(NpzWriter(make_context(frames=3)), blocks_of(3, full=True))
    full = load(outputs.root / "npz/results.npz")
    np.testing.assert_array_equal(full["image"][2], coordinate_image(2))
    np.testing.assert_array_equal(full["intrinsics"][0], INTRINSICS.astype(np.float32))


def test_unknown_depth_and_its_confidence_are_0(make_context, outputs):
    block = blocks_of(3)[0]
    depth, confidence = block.depth.copy(), block.confidence.copy()
    depth[0, 0, 0], depth[0, 0, 1], confidence[0, 0, 2] = np.nan, -1, 0
    write(MiniNpzWriter(make_context(frames=3)), [replace(block, depth=depth, confidence=confidence)])
    content = load(outputs.root / "mini_npz/results.npz")
    for name in ("depth", "conf"):
        assert not content[name][0, 0, :3].any()
        assert (content[name][0, 1:] > 0).all()


def test_frames_of_another_size_are_refused(make_context, outputs):
    first, second = blocks_of(4, 2)
    smaller = replace(second, depth=second.depth[:, :-1], confidence=second.confidence[:, :-1])
    writer = MiniNpzWriter(make_context(frames=4))
    writer.add(first)
    with pytest.raises(MixedImageSizesError, match=r"`depth`.*\(18, 28\) after \(19, 28\).*depth_png"):
        writer.add(smaller)
    writer.abort()
    assert outputs.pending() == []
