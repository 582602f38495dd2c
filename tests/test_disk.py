"""The disk budget: planned before a run, watched during it, and free to be raised when it is resumed."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import da3stream
from da3stream import disk, load_config
from da3stream.disk import DiskBudget, folder_bytes
from da3stream.errors import StoreError
from da3stream.store.opening import FREE_OPTIONS
from da3stream.synthetic.capture import SimulatedWorld
from tests.faults.capture import capture, outputs_of, reconstruct
from tests.faults.doubles import WatchedFileSystem


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    return capture()


def budget(root: Path, **options: object) -> DiskBudget:
    return DiskBudget(root, load_config(None, options))


def test_what_cannot_fit_is_refused_before_anything_is_written(tmp_path: Path, world: SimulatedWorld) -> None:
    with pytest.raises(StoreError, match=r"about .* for 60 frames, .* more than it may.*--max-frames"):
        reconstruct(world, tmp_path / "run", WatchedFileSystem(), disk="20MB")
    assert not (tmp_path / "run").exists()


def test_a_live_source_has_no_plan(tmp_path: Path) -> None:
    budget(tmp_path, disk="1MB").plan(None)


def test_full_depth_and_many_images_cost_more(tmp_path: Path) -> None:
    room = {"disk": "3GB"}
    budget(tmp_path, **room).plan(2000)
    with pytest.raises(StoreError, match="--keep reduced"):
        budget(tmp_path, keep="full", **room).plan(2000)
    with pytest.raises(StoreError, match="--colmap-images"):
        budget(tmp_path, colmap_images=4000, **room).plan(4000)
    own = budget(tmp_path)
    assert own.output_bytes(4000, ("poses",)) < own.output_bytes(4000, ("poses", "pcd", "colmap")) / 10
    assert own.output_bytes(4000, ("results",)) > 4000 * 504 * 280 * 11


def test_without_a_budget_the_file_system_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(count: int) -> None:
        monkeypatch.setattr(disk.os, "statvfs", lambda _: SimpleNamespace(f_bavail=count, f_frsize=1))

    free(disk.RESERVE_BYTES + 2 * 10**9)
    budget(tmp_path).plan(1000)
    budget(tmp_path).check(60)
    free(disk.RESERVE_BYTES + 10**7)
    with pytest.raises(StoreError, match=r"the next chunks need \d+ MB more.*da3stream resume"):
        budget(tmp_path).check(60)
    with pytest.raises(StoreError, match="the outputs need"):
        budget(tmp_path).check_outputs(100, ("pcd", "colmap"))


def test_running_short_stops_cleanly_and_goes_on_with_more(
    tmp_path: Path, world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate is too low, as it may be for a video of noise."""
    reconstruct(world, tmp_path / "whole", WatchedFileSystem())
    run, taken = tmp_path / "run", folder_bytes(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(disk, "FIXED_BYTES", 0)
        patch.setattr(disk, "IMAGE_BYTES", 0)
        patch.setattr(disk, "MATCHED_IMAGE_BYTES", 0)
        patch.setattr(disk, "POINT_BYTES", 0)
        patch.setattr(disk, "BYTES_PER_FRAME", 1000)
        with pytest.raises(StoreError, match=rf"MB more than it may.*da3stream resume {run} --disk"):
            reconstruct(world, run, WatchedFileSystem(), disk=f"{0.3 * taken / 2**20:.3f}MB")
    assert 0 < len(list((run / "submaps").iterdir())) < 14
    assert not (run / "scratch").exists()
    assert folder_bytes(run) < 0.3 * taken
    reconstruct(world, run, WatchedFileSystem(), disk="50GB")
    assert outputs_of(run) == outputs_of(tmp_path / "whole")


def test_an_export_is_checked_too(
    tmp_path: Path, world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A larger budget is kept by resuming the finished run."""
    run = tmp_path / "run"
    reconstruct(world, run, WatchedFileSystem(), disk="200MB")
    before = folder_bytes(run)
    monkeypatch.setattr(disk, "POINT_BYTES", 10**6)
    with pytest.raises(
        StoreError, match=rf"the formats need.*resume {run} --disk SIZE; .*export {run} --to pcd"
    ):
        da3stream.export(run, ("pcd",))
    assert folder_bytes(run) == before
    reconstruct(world, run, WatchedFileSystem(), disk="9000GB")
    monkeypatch.setattr(disk, "_free_bytes", lambda _: 10**16)
    da3stream.export(run, ("pcd",))


def test_the_options_that_may_change_exist() -> None:
    assert set(FREE_OPTIONS) <= set(load_config().model_dump())


def test_gaussians_cost_less_and_less_the_longer_a_run_gets(tmp_path: Path) -> None:
    """A frame of a long run keeps its part of the budget only."""
    own = budget(tmp_path, export="gs_ply", max_gaussians=10**6)
    ply = own.output_bytes(1000, ("gs_ply",)) - own.output_bytes(1000, ())
    assert ply == 68 * 10**6
    stored = {
        count: own.planned_bytes(count) - count * 200_000 - own.output_bytes(count, ("gs_ply",))
        for count in (5, 100, 1000, 10_000)
    }
    assert stored[5] == pytest.approx(5 * 34 * 504 * 280, rel=1e-6)
    assert stored[1000] > 34 * 10**6
    tenfold = 34 * 10**6 * np.log(10)
    assert stored[10_000] - stored[1000] == pytest.approx(tenfold, rel=0.01)
    assert stored[1000] - stored[100] == pytest.approx(tenfold, rel=0.01)


def test_files_that_go_away_while_they_are_counted_take_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("kept", "pending"):
        (tmp_path / name).write_bytes(bytes(10_000))
    lstat = os.lstat

    def late(path: str) -> os.stat_result:
        (tmp_path / "pending").unlink(missing_ok=True)
        return lstat(path)

    monkeypatch.setattr("da3stream.disk.os.lstat", late)
    assert folder_bytes(tmp_path) == (tmp_path / "kept").stat().st_blocks * 512
