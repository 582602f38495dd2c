"""chunks/."""

from __future__ import annotations

import numpy as np
from plyfile import PlyData

from da3stream.writers.pcd import PcdWriter
from da3stream.writers.ply_chunks import PlyChunksWriter

from .plane_scene import PLANE_NORMAL, PLANE_OFFSET, blocks_of, write


def read(path):
    vertex = PlyData.read(path)["vertex"]
    points = np.stack([vertex[axis] for axis in "xyz"], axis=1)
    return points, np.stack([vertex[channel] for channel in ("red", "green", "blue")], axis=1)


def test_every_chunk_has_the_points_of_its_own_frames(make_context, outputs):
    write(PlyChunksWriter(make_context(frames=24)), blocks_of(24, 10))
    assert outputs.visible() == [f"chunks/{number:06d}.ply" for number in range(3)]
    for number in range(3):
        points, colors = read(outputs.root / "chunks" / f"{number:06d}.ply")
        np.testing.assert_allclose(points @ PLANE_NORMAL, PLANE_OFFSET, atol=1e-4)
        frames = range(10 * number, min(10 * number + 10, 24))
        assert set(colors[:, 2].tolist()) == set(frames)  # blue names the frame


def test_together_they_are_the_combined_cloud(make_context, outputs):
    for writer_class in (PlyChunksWriter, PcdWriter):
        write(writer_class(make_context(frames=24, max_points=2000)), blocks_of(24, 10))
    chunks = [read(path) for path in sorted((outputs.root / "chunks").iterdir())]
    points, colors = read(outputs.root / "pcd" / "combined_pcd.ply")
    np.testing.assert_array_equal(np.concatenate([part for part, _ in chunks]), points)
    np.testing.assert_array_equal(np.concatenate([part for _, part in chunks]), colors)
    assert len(points) <= 2000
