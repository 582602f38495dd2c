"""A finished run with loops, coarse chunks and rejected candidates, whose report is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.capture import capture, reconstruct
from tests.faults.doubles import WatchedFileSystem


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    reconstruct(capture(), folder, WatchedFileSystem())
    return folder
