"""The COLMAP folder of real images: what users do with it next."""

from __future__ import annotations

from pathlib import Path

import pycolmap
import pytest

import da3stream
from da3stream.evaluation import evaluate, load_trajectory
from da3stream.pipeline import align, export

FRAMES = 14
pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.mark.parametrize(
    ("images", "truth"),
    [("kitti_seq1/image_l", "kitti_seq1/poses.txt"), ("fox/images", "fox/transforms.json")],
)
def test_the_model_bundle_adjusts(shared: Path, tmp_path: Path, images: str, truth: str) -> None:
    config = da3stream.load_config(
        overrides={"model": "classical", "max_frames": FRAMES, "export": "colmap", "loop": False, "coarse": 0}
    )
    da3stream.reconstruct(str(shared / "data" / images), tmp_path / "run", config=config)
    sparse, adjusted = tmp_path / "run" / "colmap" / "sparse" / "0", tmp_path / "adjusted"
    model = pycolmap.Reconstruction(sparse)
    observations = model.compute_num_observations()
    assert model.num_reg_images() == FRAMES
    assert model.compute_mean_track_length() >= 3
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    pycolmap.bundle_adjustment(model, options)
    pycolmap.ObservationManager(model).filter_all_points3D(4.0, 1.5)
    assert model.compute_num_observations() >= 0.9 * observations > 1000
    assert model.compute_mean_reprojection_error() <= 1.0
    adjusted.mkdir()
    model.write_binary(adjusted)
    true = load_trajectory(_truth_of_these(shared / "data" / truth, tmp_path))
    before, after = evaluate(load_trajectory(sparse), true), evaluate(load_trajectory(adjusted), true)
    assert after.ate.rmse <= 1.02 * before.ate.rmse


def _truth_of_these(truth: Path, folder: Path) -> Path:
    """Lines without names belong to images only if there are as many of both."""
    if truth.suffix != ".txt":
        return truth
    lines = truth.read_text().splitlines(keepends=True)[:FRAMES]
    (folder / "truth.txt").write_text("".join(lines))
    return folder / "truth.txt"


def test_align_writes_what_matching_anew_writes(shared: Path, tmp_path: Path) -> None:
    config = da3stream.load_config(
        overrides={"model": "classical", "max_frames": 12, "export": "colmap", "loop": False, "coarse": 0}
    )
    da3stream.reconstruct(str(shared / "data" / "fox" / "images"), tmp_path / "run", config=config)
    colmap = tmp_path / "run" / "colmap"
    before = contents(colmap)
    align(tmp_path / "run", up="gravity", scale=3.0)
    aligned = contents(colmap)
    assert aligned["sparse/0/images.bin"] != before["sparse/0/images.bin"]
    with (colmap / "database.db").open("ab") as stream:
        stream.write(b"edited")
    export(tmp_path / "run", ("colmap",))
    assert contents(colmap) == aligned


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
