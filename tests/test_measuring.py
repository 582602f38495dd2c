"""What a run takes is measured without taking much."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from da3stream.disk import folder_bytes
from da3stream.estimation.da3.device import reserved_bytes
from da3stream.measuring import ResourceMeter, environment
from da3stream.store import RunRequest, open_run

BLOCK = 4096
REQUEST = RunRequest(config={}, source="s", input=None, model="m", timestamps_are_synthetic=False)


def test_what_is_written_is_added_up_to_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = open_run(tmp_path / "run", REQUEST, version="1")
    run.files.write("frames/earlier", bytes(1_000_000))
    meter = ResourceMeter(run)
    before = meter.sample()
    run.files.write("frames/a", bytes(3_000_000))
    run.files.append("b", bytes(1_000_000))
    after, exact = meter.sample(), meter.exact_sample()
    run.close()
    assert before.disk_bytes >= 1_000_000
    assert after.disk_bytes - before.disk_bytes == 4_000_000
    assert exact.disk_bytes == folder_bytes(tmp_path / "run")
    assert after.disk_bytes == pytest.approx(exact.disk_bytes, abs=8 * BLOCK)
    assert before.began_s == after.began_s <= before.time_s <= after.time_s


def test_memory_is_that_of_now(tmp_path: Path) -> None:
    """The ballast is mapped, since the heap of a process that runs many tests has room."""
    run = open_run(tmp_path / "run", REQUEST, version="1")
    meter = ResourceMeter(run)
    before = meter.sample().rss_bytes
    ballast = mmap.mmap(-1, 240_000_000)
    for _ in range(240):
        ballast.write(b"1" * 1_000_000)
    during = meter.sample().rss_bytes
    ballast.close()
    after = meter.sample().rss_bytes
    run.close()
    if before is None or during is None or after is None:
        pytest.fail("Linux says how much memory a process has")
    assert during - before > 200_000_000
    assert during - after > 200_000_000


def test_memory_of_all_gpus_counts_and_none_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    reserved = [0, 0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: reserved[device])
    assert reserved_bytes() is None
    reserved[:] = [5, 7]
    assert reserved_bytes() == 12


def test_the_environment_names_versions_and_no_machine() -> None:
    found = environment()
    assert found["numpy"] == np.__version__
    assert set(found) >= {"python", "torch", "pycolmap", "system"}
    assert found["system"].split()[0] in ("Linux", "Darwin", "Windows")
