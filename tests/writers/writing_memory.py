"""How much memory all writers hold during a long capture.

`python -m tests.writers.writing_memory FRAMES` prints the peaks as JSON. They are measured in a process of
their own, where nothing else lives and every library is loaded by the same steps.
"""

from __future__ import annotations

import json
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from da3stream.config import OutputConfig
from da3stream.config.model import ExportName
from da3stream.scene import FrameBlock
from da3stream.writers import create_writers, nerfstudio
from da3stream.writers.base import WriterContext
from da3stream.writers.colmap import writer as colmap_writer

from .folder_outputs import FolderOutputs
from .plane_scene import FakeOriginals, arc_positions, blocks_of, plane_block, write

BLOCK = 20
"""Frames of a block."""
POINTS = 5000
"""The most of any cloud: fewer than the first two fifths of a capture give."""


def long_capture(frames: int) -> Iterator[FrameBlock]:
    """Frames of one block over and over under new names: cheap to make, as heavy to write."""
    block = plane_block(0, BLOCK, frames=BLOCK)
    for start in range(0, frames, BLOCK):
        index = np.arange(start, start + BLOCK)
        shift = np.eye(4)
        shift[0, 3] = start / 10
        yield replace(
            block,
            submap=start // BLOCK,
            index=index,
            source_index=index,
            timestamp_s=index / 10,
            names=tuple(f"{i:06d}.jpg" for i in index),
            world_from_cam=shift @ block.world_from_cam,
        )


def context_in(folder: Path, frames: int, **options: Any) -> WriterContext:
    """A run directory for so many frames."""
    (folder / "scratch").mkdir(parents=True)
    return WriterContext(
        outputs=FolderOutputs(folder / "run", folder / "scratch"),
        config=OutputConfig(colmap_points="dense", **options),
        positions_in_world=arc_positions(frames),
        is_metric=True,
        timestamps_are_synthetic=False,
        numbered_in=None,
        originals=FakeOriginals(),
    )


def peaks(folder: Path, frames: int) -> list[int]:
    """Peaks of Python's and numpy's memory in bytes: after two fifths of the blocks, all, and finished."""
    colmap_writer._MAX_POINTS = nerfstudio._MAX_POINTS = POINTS
    everything = (*get_args(ExportName), "results")
    for writer in create_writers(everything, context_in(folder / "warm", BLOCK)):
        write(writer, blocks_of(BLOCK, full=True))  # what the libraries hold once they are loaded
    light = [name for name in everything if name != "results"]
    writers = [
        *create_writers(light, context_in(folder / "long", frames, max_points=POINTS, mesh_voxel=1)),
        *create_writers(["pcd"], context_in(folder / "thinned", frames, max_points=POINTS, voxel_size=0.05)),
    ]
    blocks = list(long_capture(frames))  # they share their large arrays
    found = []
    tracemalloc.start()
    for number, block in enumerate(blocks, start=1):
        for writer in writers:
            writer.add(block)
        if number in (2 * len(blocks) // 5, len(blocks)):
            found.append(tracemalloc.get_traced_memory()[1])
    for writer in writers:
        writer.finish()
    return [*found, tracemalloc.get_traced_memory()[1]]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(peaks(Path(folder), int(sys.argv[1]))))
