"""pcd/combined_pcd.ply."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plyfile import PlyData

from da3stream.writers.pcd import PcdWriter

from .plane_scene import PLANE_NORMAL, PLANE_OFFSET, STEP, blocks_of, plane_block, write

PIXELS = 19 * 28


@pytest.fixture
def vertices(outputs):
    """Reads the file with a program that is not ours: positions and colors."""

    def read() -> tuple[np.ndarray, np.ndarray]:
        ply = PlyData.read(outputs.root / "pcd" / "combined_pcd.ply")
        assert (ply.text, ply.byte_order) == (False, "<")
        table = ply["vertex"]
        assert [(p.name, p.val_dtype) for p in table.properties] == [
            *((axis, "f4") for axis in "xyz"),
            *((channel, "u1") for channel in ("red", "green", "blue")),
        ]
        columns = [
            np.stack([table[name] for name in names], axis=-1) for names in ("xyz", ("red", "green", "blue"))
        ]
        return columns[0], columns[1]

    return read


@pytest.mark.parametrize(
    "options", [{}, {"max_points": 1000}, {"voxel_size": 0.2}, {"voxel_size": 0.01, "max_points": 500}]
)
def test_every_point_lies_on_the_plane(make_context, vertices, options):
    write(PcdWriter(make_context(**options)), blocks_of(24))
    positions, _ = vertices()
    assert len(positions) > 100
    assert np.abs(positions.astype(np.float64) @ PLANE_NORMAL - PLANE_OFFSET).max() < 4e-6


def test_every_confident_sample_is_one_point(make_context, vertices):
    """Colours name frame and pixel, so that each (frame, sample) can be counted."""
    write(PcdWriter(make_context(confidence_percentile=0)), blocks_of(24))
    _, colors = vertices()
    assert len(colors) == 24 * PIXELS
    assert len(np.unique(colors, axis=0)) == len(colors)
    assert set(colors[:, 0] % STEP) == set(colors[:, 1] % STEP) == {STEP // 2}
    assert set(colors[:, 2]) == set(range(24))


@pytest.mark.parametrize("percentile", [0, 25, 40, 99])
def test_the_least_confident_share_is_missing(make_context, vertices, percentile):
    blocks = blocks_of(24, 8)
    write(PcdWriter(make_context(confidence_percentile=percentile)), blocks)
    _, colors = vertices()
    samples = 8 * PIXELS
    assert len(colors) == 3 * (samples - int(samples * percentile / 100))
    for block in blocks:
        threshold = np.sort(block.confidence, axis=None)[int(samples * percentile / 100)]
        rows = {index: row for row, index in enumerate(block.index.tolist())}
        for x, y, frame in colors[np.isin(colors[:, 2], block.index)].tolist():
            assert block.confidence[rows[frame], y // STEP, x // STEP] >= threshold


def test_points_without_confidence_are_missing_even_at_percentile_zero(make_context, vertices):
    block = plane_block(0, 4)
    confidence = block.confidence.copy()
    confidence[:, :10] = 0
    write(PcdWriter(make_context(confidence_percentile=0)), [replace(block, confidence=confidence)])
    _, colors = vertices()
    assert len(colors) == 4 * 9 * 28
    assert colors[:, 1].min() >= 10 * STEP


@pytest.mark.parametrize("options", [{}, {"voxel_size": 0.05}])
@pytest.mark.parametrize("max_points", [1, 10, 777])
def test_the_cap_holds(make_context, vertices, max_points, options):
    write(PcdWriter(make_context(max_points=max_points, **options)), blocks_of(24))
    positions, _ = vertices()
    assert 0 < len(positions) <= max_points


def test_a_voxel_holds_one_point_across_blocks(make_context, vertices):
    write(PcdWriter(make_context(voxel_size=0.25)), blocks_of(24, 3))
    positions, _ = vertices()
    cells = np.floor(positions.astype(np.float64) / 0.25)
    assert len(np.unique(cells, axis=0)) == len(cells)


def test_voxels_that_choose_their_side_are_as_wide_as_a_pixel(make_context, vertices):
    blocks = blocks_of(24)
    write(PcdWriter(make_context(voxel_size="auto", confidence_percentile=0)), blocks)
    positions, _ = vertices()
    side = np.median(blocks[0].depth) / blocks[0].depth_intrinsics[0, 0, 0]
    cells = np.floor(positions.astype(np.float64) / side)
    assert len(np.unique(cells, axis=0)) == len(cells)
    assert PIXELS < len(positions) < 24 * PIXELS / 3


def test_voxels_that_choose_their_side_keep_to_the_cap(make_context, vertices, caplog):
    write(PcdWriter(make_context(voxel_size="auto", max_points=200)), blocks_of(24))
    assert 50 <= len(vertices()[0]) <= 200
    assert not caplog.records


def test_larger_voxels_than_asked_for_are_announced(make_context, caplog):
    write(PcdWriter(make_context(voxel_size=0.01, max_points=100)), blocks_of(24))
    assert "Raise --max-points or --voxel-size" in caplog.text


def test_voxels_as_asked_for_are_not(make_context, caplog):
    write(PcdWriter(make_context(voxel_size=0.25)), blocks_of(24))
    assert not caplog.records


@pytest.mark.parametrize("options", [{}, {"voxel_size": 0.2}])
def test_infinite_depths_and_poses_never_get_in(make_context, vertices, options):
    block = plane_block(0, 3)
    depth = block.depth.copy()
    depth[0, 0, :] = np.nan
    depth[1, 0, :] = np.inf
    depth[2, 0, :] = 3.4e38
    block = replace(block, depth=depth)
    write(PcdWriter(make_context(frames=3, confidence_percentile=0, **options)), [block])
    positions, _ = vertices()
    assert np.isfinite(positions).all()


@pytest.mark.parametrize("options", [{}, {"voxel_size": 0.2}, {"voxel_size": "auto"}])
def test_an_empty_cloud_is_a_valid_file(make_context, vertices, options):
    block = plane_block(0, 3)
    blocks = [replace(block, confidence=np.zeros_like(block.confidence))]
    write(PcdWriter(make_context(**options)), blocks)
    positions, _ = vertices()
    assert len(positions) == 0
