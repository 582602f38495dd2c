"""A folder with images and a COLMAP model as input: our own one again, and folders that cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from click.testing import CliRunner

import da3stream
from da3stream import load_config
from da3stream.cli import cli
from da3stream.errors import ConfigError, FormatError, InputError
from da3stream.opening import open_input
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld

from .doubles import CountingEstimator
from .test_known_poses import write_kitti
from .test_resume import digests

FRAMES = 30
OPTIONS = {"colmap_points": "dense", "chunk_size": 12, "overlap": 6, "resolution": 126}


@pytest.fixture(scope="module")
def first_run(world: SimulatedWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a folder of images with known poses, far from the origin."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "photos").mkdir()
    for frame in SimulatedSource(world, frames=FRAMES):
        assert cv2.imwrite(str(folder / "photos" / f"img{frame.index}.png"), frame.image[..., ::-1])
    poses = write_kitti(folder / "poses.txt", world.world_from_cam)
    config = load_config(None, {**OPTIONS, "poses": str(poses)})
    da3stream.reconstruct(
        folder / "photos", folder / "run", config=config, estimator=CountingEstimator(world)
    )
    return folder / "run"


@pytest.fixture
def colmap(first_run: Path, tmp_path: Path) -> Path:
    """A copy of its COLMAP folder."""
    return Path(shutil.copytree(first_run / "colmap", tmp_path / "colmap"))


def model_of(colmap: Path) -> pycolmap.Reconstruction:
    return pycolmap.Reconstruction(str(colmap / "sparse" / "0"))


def test_our_own_folder_gives_the_same_trajectory_again(
    tmp_path: Path, world: SimulatedWorld, colmap: Path
) -> None:
    before = model_of(colmap)
    result = da3stream.reconstruct(
        colmap, tmp_path / "run", config=load_config(None, OPTIONS), estimator=CountingEstimator(world)
    )
    np.testing.assert_allclose(result.trajectory.world_from_cam, world.world_from_cam[:FRAMES], atol=1e-9)
    after = model_of(tmp_path / "run" / "colmap")
    assert [image.name for image in after.images.values()] == [image.name for image in before.images.values()]
    da3stream.export(tmp_path / "run", ("colmap",))  # finds its images again
    assert model_of(tmp_path / "run" / "colmap").num_reg_images() == FRAMES


def test_intrinsics_come_from_the_model(colmap: Path) -> None:
    camera = next(iter(model_of(colmap).cameras.values()))
    given = open_input(colmap, load_config(None, OPTIONS))
    np.testing.assert_allclose(given.config.intrinsics, camera.params, rtol=1e-12)
    own = open_input(colmap, load_config(None, {**OPTIONS, "intrinsics": "100,100,60,20"}))
    assert own.config.intrinsics == (100, 100, 60, 20)


def test_a_resumed_run_is_the_same(tmp_path: Path, world: SimulatedWorld, colmap: Path) -> None:
    config = load_config(None, OPTIONS)
    da3stream.reconstruct(colmap, tmp_path / "whole", config=config, estimator=CountingEstimator(world))
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            colmap, tmp_path / "cut", config=config, estimator=CountingEstimator(world, fail_at=2)
        )
    da3stream.reconstruct(
        colmap, tmp_path / "cut", config=config, estimator=CountingEstimator(world), resume=True
    )
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_images_without_a_pose_are_left_out_with_a_warning(
    tmp_path: Path, world: SimulatedWorld, colmap: Path
) -> None:
    shutil.copy(colmap / "images" / "img3.png", colmap / "images" / "extra.png")
    result = da3stream.reconstruct(
        colmap, tmp_path / "run", config=load_config(None, OPTIONS), estimator=CountingEstimator(world)
    )
    assert len(result.trajectory) == FRAMES
    assert "1 of 31 images have no pose and are left out: extra.png, ..." in result.warnings


def test_distortion_is_taken_out(colmap: Path) -> None:
    set_camera(colmap, pycolmap.CameraModelId.OPENCV, 0.1, 0, 0, 0)
    opened = open_input(colmap, load_config(None, OPTIONS))
    assert opened.config.distortion == "radtan:0.1,0.0,0.0,0.0"
    pinhole = open_input(colmap, load_config(None, {**OPTIONS, "distortion": None}))
    assert pinhole.source.identity() == opened.source.identity()
    set_camera(colmap, pycolmap.CameraModelId.PINHOLE)
    plain = open_input(colmap, load_config(None, OPTIONS))
    assert plain.config.distortion is None
    assert plain.config.intrinsics == opened.config.intrinsics
    before, after = next(iter(plain.source)).image, next(iter(opened.source)).image
    assert (before != after).any()


def test_a_camera_model_that_is_not_known_is_named(colmap: Path) -> None:
    set_camera(colmap, pycolmap.CameraModelId.FOV, 0.5)
    with pytest.raises(FormatError, match=r"unknown camera model; got FOV; expected one of SIMPLE_PINHOLE"):
        open_input(colmap, load_config(None, OPTIONS))


def set_camera(colmap: Path, model_id: pycolmap.CameraModelId, *more: float) -> None:
    model = model_of(colmap)
    camera = next(iter(model.cameras.values()))
    camera.model, camera.params = model_id, [*camera.params[:4], *more]
    model.write(colmap / "sparse" / "0")


def test_an_image_that_is_missing_is_named(colmap: Path) -> None:
    (colmap / "images" / "img7.png").unlink()
    with pytest.raises(InputError, match=r"1 missing, img7\.png for one"):
        open_input(colmap, load_config(None, OPTIONS))


def test_smaller_copies_have_smaller_intrinsics_and_others_are_refused(colmap: Path) -> None:
    full = open_input(colmap, load_config(None, OPTIONS)).config.intrinsics
    for path in (colmap / "images").iterdir():
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (63, 21)))
    half = open_input(colmap, load_config(None, OPTIONS)).config.intrinsics
    assert full is not None
    np.testing.assert_allclose(np.array(half), np.array(full) / 2)
    for path in (colmap / "images").iterdir():
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (63, 63)))
    with pytest.raises(ConfigError, match="is of images of another shape"):
        open_input(colmap, load_config(None, OPTIONS))


def test_a_damaged_model_is_one_clear_line(colmap: Path) -> None:
    (colmap / "sparse" / "0" / "images.bin").write_bytes(b"\x07\x00")
    with pytest.raises(FormatError, match="pycolmap cannot read the model") as caught:
        open_input(colmap, load_config(None, OPTIONS))
    assert "\n" not in str(caught.value)


def test_info_describes_its_images(colmap: Path) -> None:
    shown = CliRunner().invoke(cli, ["info", str(colmap), "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["frames"] == FRAMES
