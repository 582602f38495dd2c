"""Whole runs that write Gaussians: pseudo-random weights, so that only laws can be checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import plyfile
import pytest
from click.testing import CliRunner

import da3stream
from da3stream import Config, load_config
from da3stream.cli import cli
from da3stream.errors import ConfigError, RunIncompleteError
from da3stream.store import open_existing
from tests.estimation.da3.seeded_weights import seeded_images

from .interrupting import interrupted_estimates

FRAMES = 10


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index, image in enumerate(seeded_images(5, FRAMES, 56, 84, shift=0.03)):
        assert cv2.imwrite(str(folder / f"{index:03d}.png"), image)
    return folder


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("da3stream.estimation.da3.device.cuda_is_available", lambda: False)


def options(**more: Any) -> Config:
    small = {
        "model": "tiny-gaussians",
        "weights": "seeded:0",
        "colmap_points": "dense",
        "chunk_size": 4,
        "resolution": 84,
    }
    return load_config(None, small | {"place": "none", "export": "gs_ply,poses"} | more)


def gaussians_in(run: Path) -> np.ndarray:
    table: np.ndarray = plyfile.PlyData.read(run / "gs_ply" / "gaussians.ply")["vertex"].data
    return table


def test_the_command_line_writes_a_file_that_others_read(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--model", "tiny-gaussians", "--weights", "seeded:0", "--chunk-size", "4"]
    small = ["--resolution", "84", "--device", "cpu", "--export", "gs_ply,tum", "--max-gaussians", "2000"]
    ended = CliRunner().invoke(cli, ["run", str(photos), "-o", str(run), *arguments, *small])
    assert ended.exit_code == 0, ended.output
    assert "gs_ply/gaussians.ply" in ended.output
    table = gaussians_in(run)
    assert len(table) == 2000
    assert all(np.isfinite(table[name]).all() for name in table.dtype.names)
    assert CliRunner().invoke(cli, ["export", str(run), "--to", "gs_ply"]).exit_code == 0
    assert np.array_equal(gaussians_in(run), table)


def test_gaussians_lie_before_the_final_cameras_of_their_frames(photos: Path, tmp_path: Path) -> None:
    """Each frame's are in its image and at its depth, by the poses that are published."""
    result = da3stream.reconstruct(photos, tmp_path / "run", config=options())
    table = gaussians_in(tmp_path / "run")
    points = np.stack([table[axis] for axis in "xyz"], axis=1).astype(float)
    run = open_existing(tmp_path / "run")
    try:
        stored = [run.gaussians(record.chunk.index) for record in run.fine_chunks]
        owned = [len(record.chunk.new) for record in run.fine_chunks]
    finally:
        run.close()
    assert [len(gaussians.counts) for gaussians in stored if gaussians is not None] == owned
    counts = np.concatenate([gaussians.counts for gaussians in stored if gaussians is not None])
    assert len(counts) == FRAMES
    assert counts.sum() == len(points)
    starts = np.cumsum(counts) - counts
    for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
        cam_from_world = np.linalg.inv(result.trajectory.world_from_cam[row])
        seen = points[start : start + count] @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
        pixels = seen @ result.trajectory.intrinsics[row].T
        pixels = pixels[:, :2] / pixels[:, 2:]
        assert (seen[:, 2] > 0).mean() > 0.99
        inside = (pixels > -5).all(axis=1) & (pixels < [89, 61]).all(axis=1)
        assert inside.mean() > 0.95, row


def test_an_interrupted_run_is_resumed_to_the_same_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = options(gaussian_degree=2, coarse=0)
    da3stream.reconstruct(photos, tmp_path / "whole", config=config)
    with interrupted_estimates(monkeypatch, call=3), pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(photos, tmp_path / "run", config=config)
    assert list((tmp_path / "run" / "gaussians").iterdir())
    da3stream.reconstruct(photos, tmp_path / "run", config=config, resume=True)
    first, second = ((tmp_path / name / "gs_ply" / "gaussians.ply").read_bytes() for name in ("whole", "run"))
    assert first == second


def test_with_keep_none_the_stored_ones_go(photos: Path, tmp_path: Path) -> None:
    da3stream.reconstruct(photos, tmp_path / "run", config=options(keep="none", max_gaussians=500))
    assert not (tmp_path / "run" / "gaussians").exists()
    assert len(gaussians_in(tmp_path / "run")) == 500


@pytest.mark.parametrize("model", ["tiny", "classical"])
def test_a_model_without_them_is_refused_before_the_start(photos: Path, tmp_path: Path, model: str) -> None:
    with pytest.raises(ConfigError, match=f"gs_ply needs.*got {model}.*da3-giant"):
        da3stream.reconstruct(photos, tmp_path / "run", config=options(model=model))
    assert not (tmp_path / "run").exists()


def test_a_run_without_them_cannot_export_them(photos: Path, tmp_path: Path) -> None:
    da3stream.reconstruct(photos, tmp_path / "run", config=options(export="tum"))
    assert not (tmp_path / "run" / "gaussians").exists()
    with pytest.raises(RunIncompleteError, match="no Gaussians"):
        da3stream.export(tmp_path / "run", ("gs_ply",))
    assert not (tmp_path / "run" / "gs_ply").exists()


def test_a_damaged_file_of_them_is_made_anew(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    da3stream.reconstruct(photos, run, config=options(coarse=0))
    before = (run / "gs_ply" / "gaussians.ply").read_bytes()
    damaged = run / "gaussians" / "000001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    da3stream.reconstruct(photos, run, config=options(coarse=0), resume=True)
    assert (run / "gs_ply" / "gaussians.ply").read_bytes() == before
