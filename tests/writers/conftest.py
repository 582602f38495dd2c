"""Fixtures of the writers' tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from da3stream.config import OutputConfig
from da3stream.source.base import HasOriginals
from da3stream.writers.base import WriterContext

from .folder_outputs import FolderOutputs
from .plane_scene import arc_positions


@pytest.fixture
def outputs(tmp_path: Path) -> FolderOutputs:
    root, scratch = tmp_path / "run", tmp_path / "scratch"
    root.mkdir()
    scratch.mkdir()
    return FolderOutputs(root, scratch)


@pytest.fixture
def make_context(outputs: FolderOutputs) -> Callable[..., WriterContext]:
    """Builds a context; keywords that it does not know are options of the output section.

    Nothing is matched unless it is asked for: the images of most tests are none.
    """

    def make(*, frames: int = 24, originals: HasOriginals | None = None, **options: Any) -> WriterContext:
        options = {"colmap_points": "dense", **options}
        return WriterContext(
            outputs=outputs,
            config=OutputConfig(**options),
            positions_in_world=arc_positions(frames),
            is_metric=True,
            timestamps_are_synthetic=False,
            numbered_in=None,
            originals=originals,
        )

    return make
