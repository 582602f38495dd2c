"""Run directories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from da3stream.store import Run, RunRequest, open_run


@pytest.fixture(scope="module", autouse=True)
def no_power_cuts() -> None:
    """Here the disk is waited for."""


@pytest.fixture
def request_() -> RunRequest:
    return RunRequest(
        config={"chunk_size": 4, "fps": None, "export": ["poses"]}, source="clip:1", input="clip.mp4",
        model="classical", timestamps_are_synthetic=False,
    )  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "out" / "run"


@pytest.fixture
def opened(root: Path, request_: RunRequest) -> Iterator[Callable[..., Run]]:
    """Opens the run directory `root`, having closed it before; at the end of the test it is closed."""
    runs: list[Run] = []

    def open_it(request: RunRequest = request_, **options: Any) -> Run:
        while runs:
            runs.pop().close()
        runs.append(open_run(root, request, version="0", **options))
        return runs[-1]

    yield open_it
    while runs:
        runs.pop().close()
