"""results_output/."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from da3stream.errors import RunIncompleteError
from da3stream.writers.results import ResultsWriter

from .plane_scene import HEIGHT, INTRINSICS, WIDTH, arc_pose, blocks_of, coordinate_image, plane_depth, write


def test_every_frame_has_its_file(make_context, outputs):
    write(ResultsWriter(make_context()), blocks_of(12, full=True))
    assert outputs.visible() == sorted(f"results_output/frame_{i}.npz" for i in range(12))


def test_content_has_the_documented_names_shapes_and_types(make_context, outputs):
    write(ResultsWriter(make_context()), blocks_of(12, full=True))
    with np.load(outputs.root / "results_output" / "frame_11.npz", allow_pickle=False) as file:
        content = dict(file)
    assert {name: (array.shape, array.dtype.name) for name, array in content.items()} == {
        "image": ((HEIGHT, WIDTH, 3), "uint8"),
        "depth": ((HEIGHT, WIDTH), "float32"),
        "conf": ((HEIGHT, WIDTH), "float32"),
        "intrinsics": ((3, 3), "float32"),
    }
    assert np.array_equal(content["image"], coordinate_image(11))
    assert np.array_equal(content["intrinsics"], INTRINSICS.astype(np.float32))
    expected = plane_depth(arc_pose(1.0), INTRINSICS, HEIGHT, WIDTH).astype(np.float32)
    assert np.array_equal(content["depth"], expected)
    assert content["conf"].min() >= 0


def test_depth_of_another_size_is_brought_to_that_of_the_image(make_context, outputs):
    block = blocks_of(3, full=True)[0]
    small = replace(
        block, full_depth=block.full_depth[:, ::2, ::2], full_confidence=block.full_confidence[:, ::2, ::2]
    )
    write(ResultsWriter(make_context()), [small])
    with np.load(outputs.root / "results_output" / "frame_2.npz") as file:
        assert file["depth"].shape == file["conf"].shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("missing", ["full_depth", "full_confidence"])
def test_a_run_that_was_not_kept_in_full_is_refused(make_context, outputs, missing):
    writer = ResultsWriter(make_context())
    with pytest.raises(RunIncompleteError, match=r"not kept.*--keep full"):
        writer.add(replace(blocks_of(3, full=True)[0], **{missing: None}))
    writer.abort()
    assert outputs.visible() == []
