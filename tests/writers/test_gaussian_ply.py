"""gs_ply/gaussians.ply as another program reads it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plyfile import PlyData

from da3stream.errors import RunIncompleteError
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import Gaussians
from da3stream.writers.gaussian_ply import GaussianPlyWriter
from tests.scene.test_gaussians import covariances

from .plane_scene import PLANE_NORMAL, PLANE_OFFSET, blocks_of, plane_block, write

PUBLISHED = [
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
    *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
]


def read(outputs) -> np.ndarray:
    return PlyData.read(outputs.root / "gs_ply" / "gaussians.ply")["vertex"].data


def columns(table: np.ndarray, *names: str) -> np.ndarray:
    return np.stack([table[name] for name in names], axis=-1).astype(float)


def as_read(table: np.ndarray) -> Gaussians:
    """What a viewer makes of the file: rot is w x y z."""
    return Gaussians(
        means=columns(table, "x", "y", "z"),
        log_scales=columns(table, "scale_0", "scale_1", "scale_2"),
        rotations_wxyz=columns(table, *PUBLISHED[-4:]),
        harmonics=columns(table, "f_dc_0", "f_dc_1", "f_dc_2")[:, :, None],
        opacity_logits=table["opacity"].astype(float),
    )


def test_the_columns_are_the_published_ones(make_context, outputs):
    write(GaussianPlyWriter(make_context(frames=3)), [plane_block(0, 3, frames=3)])
    table = read(outputs)
    assert list(table.dtype.names) == PUBLISHED
    assert all(table.dtype[name] == np.dtype("<f4") for name in PUBLISHED)
    assert not columns(table, "nx", "ny", "nz").any()
    assert (table["rot_3"] >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(columns(table, *PUBLISHED[-4:]), axis=1), 1, atol=1e-3)


def test_every_gaussian_lies_where_its_camera_sees_it(make_context, outputs):
    """Those of the scene are on its plane; their covariances turn with their cameras."""
    blocks = blocks_of(12, 5)
    write(GaussianPlyWriter(make_context(frames=12)), blocks)
    found = as_read(read(outputs))
    assert len(found) == sum(len(block.gaussians.gaussians) for block in blocks)
    np.testing.assert_allclose(found.means @ PLANE_NORMAL, PLANE_OFFSET, atol=1e-4)
    start = 0
    for block in blocks:
        for row, pose in enumerate(block.world_from_cam):
            seen = block.gaussians.of_frame(row)
            here = found.take(slice(start, start + len(seen)))
            expected = pose[:3, :3] @ covariances(seen) @ pose[:3, :3].T
            np.testing.assert_allclose(covariances(here), expected, rtol=1e-3, atol=1e-6)
            start += len(seen)


def test_colours_that_change_with_the_direction_are_channel_by_channel(make_context, outputs):
    block = plane_block(0, 1, frames=1)
    plain = block.gaussians.gaussians
    harmonics = np.random.default_rng(0).normal(size=(len(plain), 3, 9)).astype(np.float32)
    colourful = replace(block.gaussians, gaussians=replace(plain, harmonics=harmonics))
    writer = GaussianPlyWriter(make_context(frames=1, gaussian_degree=2))
    write(writer, [replace(block, gaussians=colourful)])
    table = read(outputs)
    assert list(table.dtype.names) == [*PUBLISHED[:9], *(f"f_rest_{i}" for i in range(24)), *PUBLISHED[9:]]
    pose = Sim3(rotation=block.world_from_cam[0, :3, :3], translation=block.world_from_cam[0, :3, 3])
    turned = colourful.gaussians.moved(pose).harmonics
    np.testing.assert_array_equal(table["f_dc_1"], turned[:, 1, 0])
    np.testing.assert_array_equal(table["f_rest_0"], turned[:, 0, 1])
    np.testing.assert_array_equal(table["f_rest_9"], turned[:, 1, 2])
    np.testing.assert_array_equal(table["f_rest_23"], turned[:, 2, 8])


@pytest.mark.parametrize("most", [1, 7, 100, 1001])
def test_frames_share_the_budget_evenly(make_context, outputs, most):
    blocks = blocks_of(12, 5)
    write(GaussianPlyWriter(make_context(frames=12, max_gaussians=most)), blocks)
    found = as_read(read(outputs))
    assert len(found) == most
    parts = np.diff([most * frame // 12 for frame in range(13)])
    starts = np.cumsum(parts) - parts
    seen = [block.gaussians.of_frame(row) for block in blocks for row in range(len(block))]
    for frame, start, part in zip(seen, starts, parts, strict=True):
        taken = found.opacity_logits[start : start + part]
        assert np.array_equal(taken, frame.opacity_logits[:part].astype(float))


def test_a_run_without_gaussians_says_what_to_do(make_context, outputs):
    writer = GaussianPlyWriter(make_context(frames=2))
    with pytest.raises(RunIncompleteError, match="--export gs_ply"):
        writer.add(replace(plane_block(0, 2, frames=2), gaussians=None))
    writer.abort()
    assert outputs.pending() == []
