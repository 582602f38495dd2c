"""Whole runs with the network: pseudo-random weights, so geometry without meaning, which must do no harm."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import plyfile
import pycolmap
import pytest
import torch
from click.testing import CliRunner

import da3stream
from da3stream import Config, Prediction, load_config
from da3stream.cli import cli
from da3stream.errors import ConfigError, RunExistsError, RunMismatchError, WeightsError
from da3stream.estimation.da3 import building, choice, weights
from da3stream.estimation.da3.config import PRESETS, NestedModelConfig
from da3stream.estimation.da3.estimator import DA3Estimator
from da3stream.estimation.memory import forward_memory
from da3stream.store import open_existing
from da3stream.store.manifest import encode_manifest
from tests.estimation.da3.checkpoint_files import few_arrays, tiny_arrays, write_folder
from tests.estimation.da3.seeded_weights import seeded_images

from .interrupting import interrupted_estimates

FRAMES = 10
IDENTICAL = ("camera_poses.txt", "camera_poses.ply", "intrinsic.txt", "trajectory_tum.txt", "cameras.json")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of overlapping crops of one texture."""
    folder = tmp_path_factory.mktemp("photos")
    for index, image in enumerate(seeded_images(5, FRAMES, 56, 84, shift=0.03)):
        assert cv2.imwrite(str(folder / f"{index:03d}.png"), image)
    return folder


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights, no GPU. Returns the working directory."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for user in (weights, choice):
        monkeypatch.setattr(user, "weights_folders", lambda: (work / "weights",))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("da3stream.estimation.da3.device.cuda_is_available", lambda: False)
    return work


def options(**more: Any) -> Config:
    small = {
        "model": "tiny",
        "weights": "seeded:0",
        "colmap_points": "dense",
        "chunk_size": 4,
        "resolution": 84,
    }
    return load_config(None, small | more)


def check_outputs(run: Path, frames: int) -> dict[str, Any]:
    """All numbers of a run are finite, its COLMAP model can be read. Returns run.json."""
    manifest: dict[str, Any] = json.loads((run / "run.json").read_text())
    assert (manifest["status"], manifest["frames"]) == ("finished", frames)
    for name in ("camera_poses.txt", "intrinsic.txt", "trajectory_tum.txt", "trajectory_kitti.txt"):
        numbers = np.loadtxt(run / name)
        assert len(numbers) == frames
        assert np.isfinite(numbers).all(), name
    json.loads((run / "cameras.json").read_text(), parse_constant=pytest.fail)
    for name in ("camera_poses.ply", "pcd/combined_pcd.ply"):
        vertices = plyfile.PlyData.read(run / name)["vertex"]
        assert all(np.isfinite(vertices[axis]).all() for axis in "xyz"), name
    for file in (run / "results_output").glob("*.npz"):
        with np.load(file) as arrays:
            assert all(np.isfinite(arrays[name]).all() for name in arrays.files), file
    model = pycolmap.Reconstruction(run / "colmap" / "sparse" / "0")
    assert model.num_reg_images() == frames
    assert all(np.isfinite(point.xyz).all() for point in model.points3D.values())
    assert all(np.isfinite(image.cam_from_world().matrix()).all() for image in model.images.values())
    return manifest


@pytest.mark.parametrize("pose_head", ["camera", "ray"])
def test_pseudo_random_weights_give_a_clean_run_with_warnings(
    photos: Path, tmp_path: Path, pose_head: str
) -> None:
    config = options(pose_head=pose_head, keep="full", export="poses,tum,kitti,cameras,pcd,colmap")
    result = da3stream.reconstruct(photos, tmp_path / "run", config=config)
    manifest = check_outputs(tmp_path / "run", FRAMES)
    assert (manifest["model"], manifest["weights"]) == ("tiny", {"seed": 0})
    assert list((tmp_path / "run" / "results_output").iterdir())
    assert any("pseudo-random" in warning for warning in result.warnings)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 1e30])
def test_a_network_gone_wild_gives_a_clean_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """Every second chunk has no usable depth at all, a broken camera, and no field of view."""
    forward, chunks = DA3Estimator._forward, []

    def wild(self: DA3Estimator, *arguments: Any) -> Any:
        result = dict(forward(self, *arguments))
        chunks.append(len(chunks))
        if len(chunks) % 2 == 0:
            result["depth"] = result["depth"].clone().fill_(value)
            result["extrinsics"] = result["extrinsics"].clone()
            result["extrinsics"][:, 1] = float("nan")
            result["intrinsics"] = result["intrinsics"] * 1e6
        return result

    monkeypatch.setattr(DA3Estimator, "_forward", wild)
    result = da3stream.reconstruct(photos, tmp_path / "run", config=options())
    check_outputs(tmp_path / "run", FRAMES)
    assert len(chunks) > 3
    said = " ".join(result.warnings)
    for part in ("share too little depth", "not finite", "focal length"):
        assert part in said, result.warnings


def test_a_metric_run(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny: Any = PRESETS["tiny"]
    metric = replace(tiny, name="tiny-metric", alternation_start=None)
    monkeypatch.setitem(PRESETS, "tiny", NestedModelConfig(name="tiny", any_view=tiny, metric=metric))
    da3stream.reconstruct(photos, tmp_path / "run", config=options())
    assert check_outputs(tmp_path / "run", FRAMES)["is_metric"] is True


def test_an_interrupted_run_is_resumed_to_the_same_result(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    da3stream.reconstruct(photos, tmp_path / "whole", config=options())
    with interrupted_estimates(monkeypatch, call=3), pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(photos, tmp_path / "cut", config=options())
    ended = CliRunner().invoke(cli, ["resume", str(tmp_path / "cut")])
    assert ended.exit_code == 0, ended.output
    for name in IDENTICAL:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_finished_run_needs_no_network(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = write_folder(tmp_path / "held", tiny_arrays())
    config = options(weights=str(held))
    first = da3stream.reconstruct(photos, tmp_path / "run", config=config)
    assert not any("pseudo-random" in warning for warning in first.warnings)
    shutil.rmtree(held)
    again = da3stream.reconstruct(photos, tmp_path / "run", config=config, resume=True)
    np.testing.assert_array_equal(first.trajectory.world_from_cam, again.trajectory.world_from_cam)


def test_other_weights_do_not_continue_a_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = write_folder(tmp_path / "held", tiny_arrays())
    config = options(weights=str(held))
    with monkeypatch.context() as patch:
        patch.setattr(DA3Estimator, "estimate", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            da3stream.reconstruct(photos, tmp_path / "run", config=config)
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert manifest["weights"]["files"].keys() == {"model.safetensors"}
    manifest["weights"]["files"]["model.safetensors"] += 4
    (tmp_path / "run" / "run.json").write_bytes(encode_manifest(manifest))
    with pytest.raises(RunMismatchError, match="other weights of tiny"):
        da3stream.reconstruct(photos, tmp_path / "run", config=config, resume=True)


def test_auto_is_decided_once(
    photos: Path, tmp_path: Path, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that began as classical goes on as classical, though weights have appeared."""
    from da3stream.estimation.classical import ClassicalEstimator

    config = load_config(None, {"colmap_points": "dense", "chunk_size": 4, "resolution": 84})
    with monkeypatch.context() as patch:
        patch.setattr(ClassicalEstimator, "estimate", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            da3stream.reconstruct(photos, tmp_path / "run", config=config)
    write_folder(bare_machine / "weights" / "da3-base", few_arrays(), model="da3-base")
    with pytest.raises(WeightsError):
        da3stream.reconstruct(photos, tmp_path / "other", config=config)
    assert not (tmp_path / "other").exists()

    class Asked(Exception):
        pass

    def asked(*_: Any, **__: Any) -> Prediction:
        raise Asked

    monkeypatch.setattr(ClassicalEstimator, "estimate", asked)
    with pytest.raises(Asked):
        da3stream.reconstruct(photos, tmp_path / "run", config=config, resume=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["model"] == "classical"


def test_auto_uses_what_is_here_and_says_so(
    photos: Path, tmp_path: Path, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(bare_machine / "weights" / "da3-small", few_arrays(), model="da3-small")
    build, built = building.build_da3, []

    def tiny_instead(config: Any, model: str, notify: Any, gaussians: Any) -> DA3Estimator:
        assert gaussians is None
        built.append(model)
        made = build(config.model_copy(update={"weights": "seeded:0"}), "tiny", notify)
        made.name = model
        return made

    monkeypatch.setattr(building, "build_da3", tiny_instead)
    said: list[str] = []
    config = load_config(None, {"colmap_points": "dense", "chunk_size": 4, "resolution": 84})
    da3stream.reconstruct(
        photos, tmp_path / "run", config=config, progress=lambda step: said.append(step.message or "")
    )
    assert built == ["da3-small"]
    assert any("model auto: da3-small" in line and "--model classical" in line for line in said)
    assert check_outputs(tmp_path / "run", FRAMES)["model"] == "da3-small"


def test_what_is_missing_is_said_before_there_is_a_run_directory(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for change, error in (
        ({"model": "da3-base", "weights": None}, WeightsError),
        ({"weights": "missing"}, WeightsError),
        ({"weights": "seeded:x"}, ConfigError),
        ({"model": "auto"}, ConfigError),
    ):
        with pytest.raises(error):
            da3stream.reconstruct(photos, run, config=options(**change))
        assert not run.exists()


def test_a_full_folder_is_refused_before_a_model_is_looked_for(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    config = options(model="da3-base", weights=None)
    with pytest.raises(RunExistsError, match="not empty"):
        da3stream.reconstruct(photos, tmp_path / "run", config=config)


def test_known_intrinsics_are_kept(photos: Path, tmp_path: Path) -> None:
    da3stream.reconstruct(photos, tmp_path / "run", config=options(intrinsics="80,81,43,27"))
    check_outputs(tmp_path / "run", FRAMES)
    np.testing.assert_allclose(
        np.loadtxt(tmp_path / "run" / "intrinsic.txt"), np.tile([80, 81, 43, 27], (FRAMES, 1)), rtol=1e-6
    )


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("clip", ["robot_unitree.mp4", "kitti_seq1/image_l", "fox/images"])
def test_real_clips_with_the_small_model(shared: Path, tmp_path: Path, clip: str) -> None:
    run = tmp_path / "run"
    arguments = ["--model", "da3-small", "--weights", "seeded:0", "--chunk-size", "8", "--max-frames", "12"]
    source = str(shared / "data" / clip)
    ended = CliRunner().invoke(cli, ["run", source, "-o", str(run), *arguments, "--resolution", "112"])
    assert ended.exit_code == 0, ended.output
    manifest = check_outputs(run, 12)
    assert any("pseudo-random" in warning for warning in manifest["warnings"])
    assert CliRunner().invoke(cli, ["resume", str(run)]).exit_code == 0


def _interrupt(*_: Any, **__: Any) -> Prediction:
    raise KeyboardInterrupt


def test_one_plan_is_journaled_and_holds_how_the_work_is_cut(photos: Path, tmp_path: Path) -> None:
    da3stream.reconstruct(photos, tmp_path / "run", config=options())
    (plan,) = open_existing(tmp_path / "run").plans
    assert (plan.sizes.size, plan.budget_bytes) == (4, None)
    assert plan.execution == {"views": 1, "head_views": 1, "heads": 8}


def test_a_budget_decides_the_length_of_chunks(photos: Path, tmp_path: Path) -> None:
    memory = forward_memory("tiny", (84, 56), trunk_dtype=torch.float32)
    budget = f"{memory.card_bytes(6) / 2**20 + 0.01:.2f}MB"
    config = options(chunk_size="max", vram=budget)
    result = da3stream.reconstruct(photos, tmp_path / "run", config=config)
    (plan,) = open_existing(tmp_path / "run").plans
    assert 6 <= plan.sizes.size < FRAMES
    assert plan.planned_bytes is not None
    assert plan.budget_bytes is not None
    assert plan.planned_bytes <= plan.budget_bytes
    assert len(result.trajectory) == FRAMES
