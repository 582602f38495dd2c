"""A folder with images and a COLMAP model as input: our own one again, and folders that cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest
from click.testing import CliRunner

import da3stream
from da3stream import Prediction, load_config
from da3stream.cli import cli
from da3stream.colmap_input import ColmapFolder
from da3stream.errors import ConfigError, FormatError, InputError, InputNotFoundError
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


def assert_resumed_is_whole(folder: Path, world: SimulatedWorld, colmap: Path) -> None:
    """A run that is interrupted and resumed in `folder` / "cut" equals the one in "whole"."""
    config = load_config(None, OPTIONS)
    da3stream.reconstruct(colmap, folder / "whole", config=config, estimator=CountingEstimator(world))
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            colmap, folder / "cut", config=config, estimator=CountingEstimator(world, fail_at=2)
        )
    da3stream.reconstruct(
        colmap, folder / "cut", config=config, estimator=CountingEstimator(world), resume=True
    )
    assert digests(folder / "cut") == digests(folder / "whole")


def test_a_resumed_run_is_the_same(tmp_path: Path, world: SimulatedWorld, colmap: Path) -> None:
    assert_resumed_is_whole(tmp_path, world, colmap)


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


def give_each_image_a_camera(colmap: Path, *, distorted: bool = False, folders: bool = False) -> None:
    """Focal lengths that grow by 1 % from image to image, as COLMAP's default of one camera per image may."""
    before = model_of(colmap)
    first = next(iter(before.cameras.values()))
    after = pycolmap.Reconstruction()
    for number, image in enumerate(sorted(before.images.values(), key=lambda image: image.image_id), start=1):
        fx, fy, cx, cy = first.params[:4]
        numbers = [fx * (1 + number / 100), fy * (1 + number / 100), cx, cy]
        model = "OPENCV" if distorted else "PINHOLE"
        camera = pycolmap.Camera(
            camera_id=number,
            model=model,
            width=first.width,
            height=first.height,
            params=[*numbers, 0.01 * (number % 3), 0, 0, 0] if distorted else numbers,
        )
        name = f"{'left' if number % 2 else 'right'}/{image.name}" if folders else image.name
        if folders:
            (colmap / "images" / name).parent.mkdir(exist_ok=True)
            (colmap / "images" / image.name).rename(colmap / "images" / name)
        after.add_camera_with_trivial_rig(camera)
        after.add_image_with_trivial_frame(
            pycolmap.Image(name=name, camera_id=number, image_id=number), image.cam_from_world()
        )
    after.write(colmap / "sparse" / "0")


class SeeingEstimator(CountingEstimator):
    """Remembers which intrinsics it was given, in pixels of the images."""

    def __init__(self, world: SimulatedWorld) -> None:
        super().__init__(world)
        self.given: dict[int, np.ndarray] = {}

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        self.given.update(zip(map(int, indices), known_cameras.intrinsics, strict=True))
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


def test_every_image_may_have_a_camera_of_its_own(
    tmp_path: Path, world: SimulatedWorld, colmap: Path
) -> None:
    focal = next(iter(model_of(colmap).cameras.values())).params[0]
    give_each_image_a_camera(colmap)
    assert model_of(colmap).num_cameras() == FRAMES
    estimator = SeeingEstimator(world)
    result = da3stream.reconstruct(
        colmap, tmp_path / "run", config=load_config(None, OPTIONS), estimator=estimator
    )
    np.testing.assert_allclose(result.trajectory.world_from_cam, world.world_from_cam[:FRAMES], atol=1e-9)
    focals = focal * (1 + np.arange(1, FRAMES + 1) / 100)  # the images are as large as the processed ones
    np.testing.assert_allclose([estimator.given[frame][0, 0] for frame in range(FRAMES)], focals, rtol=1e-9)
    written = model_of(tmp_path / "run" / "colmap")
    assert written.num_cameras() == FRAMES


def test_a_resumed_run_of_several_cameras_is_the_same(
    tmp_path: Path, world: SimulatedWorld, colmap: Path
) -> None:
    give_each_image_a_camera(colmap, distorted=True, folders=True)
    assert_resumed_is_whole(tmp_path, world, colmap)
    da3stream.export(tmp_path / "cut", ("colmap",))  # reads the images again, each through its own lens
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_each_image_is_undistorted_by_its_own_lens(colmap: Path) -> None:
    names = sorted((path.name for path in (colmap / "images").iterdir()), key=lambda name: int(name[3:-4]))
    plain = {frame.name: frame for frame in open_input(colmap, load_config(None, OPTIONS)).source}
    give_each_image_a_camera(colmap, distorted=True)
    given = open_input(colmap, load_config(None, OPTIONS))
    assert given.config.intrinsics is None
    assert given.config.per_frame_cameras
    found = ColmapFolder.find(colmap)
    assert found is not None
    lenses = found.lenses()
    source = given.source
    for frame in given.source:
        assert frame.name is not None
        assert frame.intrinsics is not None
        height, width = frame.image.shape[:2]
        lens = lenses[frame.name]
        is_distorted = lens.distortion is not None
        assert (frame.image != plain[frame.name].image).any() == is_distorted
        # A pixel of the frame shows what the lens draws where its pinhole camera looks.
        expected = lens.pinhole(width, height).matrix()
        np.testing.assert_allclose(frame.intrinsics, expected, rtol=1e-9)
        assert (frame.intrinsics[0, 0] > lens.fx * 1.0001) == is_distorted
    assert [frame.name for frame in source] == names
    assert "20 images are undistorted, each by its own camera" in getattr(source, "warnings", [])


def test_images_may_lie_in_subfolders(tmp_path: Path, world: SimulatedWorld, colmap: Path) -> None:
    give_each_image_a_camera(colmap, folders=True)
    opened = open_input(colmap, load_config(None, OPTIONS))
    names = [frame.name for frame in opened.source]
    assert names[:3] == ["img0.png", "img2.png", "img4.png"]  # folder by folder, each in natural order
    assert len(names) == FRAMES
    poses = {
        image.name: image.cam_from_world().inverse().matrix() for image in model_of(colmap).images.values()
    }
    for frame in opened.source:
        posed = opened.posed(frame).world_from_cam
        assert posed is not None
        number = int(str(frame.name)[3:-4])
        folder = "right" if number % 2 else "left"
        np.testing.assert_allclose(posed[:3], poses[f"{folder}/{frame.name}"], atol=1e-12)


def test_equal_file_names_in_two_folders_are_refused(colmap: Path) -> None:
    model = model_of(colmap)
    for image in model.images.values():
        if image.name in ("img1.png", "img2.png"):
            folder = colmap / "images" / image.name[:-4]
            folder.mkdir()
            shutil.move(colmap / "images" / image.name, folder / "a.png")
            image.name = f"{image.name[:-4]}/a.png"
    model.write(colmap / "sparse" / "0")
    with pytest.raises(InputError, match=r"same file name; got img1/a\.png and img2/a\.png"):
        open_input(colmap, load_config(None, OPTIONS))


def test_images_of_two_sizes_are_refused(colmap: Path) -> None:
    give_each_image_a_camera(colmap)
    model = model_of(colmap)
    model.cameras[3].width += 10
    model.write(colmap / "sparse" / "0")
    with pytest.raises(FormatError, match=r"images that differ in size; got .* image_undistorter"):
        open_input(colmap, load_config(None, OPTIONS))


def test_masks_are_undistorted_by_the_camera_of_their_image(tmp_path: Path, colmap: Path) -> None:
    give_each_image_a_camera(colmap, distorted=True)
    (tmp_path / "masks").mkdir()
    for path in (colmap / "images").iterdir():
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert cv2.imwrite(
            str(tmp_path / "masks" / path.name), np.where(grey > 100, np.uint8(255), np.uint8(0))
        )
    given = open_input(colmap, load_config(None, {**OPTIONS, "masks": str(tmp_path / "masks")}))
    assert given.masks is not None
    for frame in list(given.source)[:6]:
        ignored = given.masks.ignored([frame], frame.size)[0]
        dark = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY) < 100
        assert (ignored == dark).mean() > 0.9


def test_only_formats_with_images_of_the_input_need_it(
    tmp_path: Path, world: SimulatedWorld, colmap: Path
) -> None:
    config = load_config(None, {**OPTIONS, "export": ("kitti",)})
    da3stream.reconstruct(colmap, tmp_path / "run", config=config, estimator=CountingEstimator(world))
    colmap.rename(tmp_path / "elsewhere")
    da3stream.export(tmp_path / "run", ("tum", "pcd"))
    da3stream.align(tmp_path / "run", scale=2.0)
    with pytest.raises(InputNotFoundError, match=r"not there any more; got .*Put it back: colmap take"):
        da3stream.export(tmp_path / "run", ("colmap", "tum"))
    (tmp_path / "elsewhere").rename(colmap)
    da3stream.export(tmp_path / "run", ("colmap", "tum"))
