"""colmap/, read back by pycolmap."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pycolmap
import pytest

from da3stream.errors import InputError, MixedImageSizesError
from da3stream.geometry.camera import rescale_intrinsics
from da3stream.writers.colmap import ColmapWriter

from .plane_scene import HEIGHT, INTRINSICS, ORIGINAL, WIDTH, FakeOriginals, blocks_of, plane_block, write

FRAMES = 24


@pytest.fixture
def model(outputs):
    return lambda: pycolmap.Reconstruction(outputs.root / "colmap" / "sparse" / "0")


@pytest.fixture
def listed(outputs):
    """Names of the files in images/."""
    folder = outputs.root / "colmap" / "images"
    return lambda: sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def images_in_order(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    return [model.images[image_id] for image_id in sorted(model.images)]


def assert_points_meet_their_pixels(model: pycolmap.Reconstruction, size: tuple[int, int]) -> None:
    """A point's colour names frame and pixel of its origin: there its projection must land."""
    image_of = {int(image.name[:6]) // 3: image for image in model.images.values()}
    assert len(model.points3D) > 1000
    for point in model.points3D.values():
        column, row, frame = point.color.tolist()
        expected = (np.array([column, row]) + 0.5) * size / [WIDTH, HEIGHT]
        assert np.abs(image_of[frame].project_point(point.xyz) - expected).max() < 2e-3


def test_points_project_to_their_pixels_at_the_original_resolution(make_context, model):
    write(ColmapWriter(make_context(originals=FakeOriginals())), blocks_of(FRAMES))
    assert_points_meet_their_pixels(model(), ORIGINAL)


def test_points_project_to_their_pixels_at_the_processing_resolution(make_context, model):
    write(ColmapWriter(make_context()), blocks_of(FRAMES))
    assert_points_meet_their_pixels(model(), (WIDTH, HEIGHT))


def test_all_images_are_registered_with_one_pinhole_camera(make_context, model):
    write(ColmapWriter(make_context(originals=FakeOriginals())), blocks_of(FRAMES))
    read = model()
    assert read.num_reg_images() == FRAMES
    (camera,) = read.cameras.values()
    assert camera.model == pycolmap.CameraModelId.PINHOLE
    assert (camera.width, camera.height) == ORIGINAL
    expected = rescale_intrinsics(INTRINSICS, (WIDTH, HEIGHT), ORIGINAL)
    assert np.allclose(camera.calibration_matrix(), expected, rtol=1e-15)


def test_poses_are_world_to_camera(make_context, model):
    blocks = blocks_of(FRAMES)
    write(ColmapWriter(make_context(originals=FakeOriginals())), blocks)
    poses = np.concatenate([block.world_from_cam for block in blocks])
    for image, pose in zip(images_in_order(model()), poses, strict=True):
        assert np.allclose(image.cam_from_world().matrix(), np.linalg.inv(pose)[:3], atol=1e-14)
        assert np.allclose(image.projection_center(), pose[:3, 3], atol=1e-14)


def test_the_camera_is_the_median_of_all_frames(make_context, model):
    block = plane_block(0, 5)
    intrinsics = block.intrinsics.copy()
    intrinsics[:, 0, 0] = [70, 71, 72, 90, 10]
    intrinsics[:, 1, 2] = [28, 30, 29, 1, 500]
    write(ColmapWriter(make_context()), [replace(block, intrinsics=intrinsics)])
    (camera,) = model().cameras.values()
    assert camera.params.tolist() == [71, 73, 40.25, 29]


def test_originals_are_copied_byte_by_byte_under_their_names(make_context, outputs, model, listed):
    originals = FakeOriginals()
    write(ColmapWriter(make_context(originals=originals)), blocks_of(FRAMES))
    names = [f"{3 * i:06d}.jpg" for i in range(FRAMES)]
    assert originals.asked == [3 * i for i in range(FRAMES)]
    assert listed() == [image.name for image in images_in_order(model())] == names
    for i, name in enumerate(names):
        assert (outputs.root / "colmap" / "images" / name).read_bytes() == b"original %d" % (3 * i)


@pytest.mark.parametrize("with_originals", [True, False])
def test_at_most_so_many_images_evenly_along_the_path(make_context, model, listed, with_originals):
    originals = FakeOriginals() if with_originals else None
    write(ColmapWriter(make_context(originals=originals, colmap_images=5)), blocks_of(FRAMES))
    names = [image.name for image in images_in_order(model())]
    assert len(names) == 5
    assert listed() == names
    assert (names[0], names[-1]) == ("000000.jpg", f"{3 * (FRAMES - 1):06d}.jpg")
    centres = np.array([image.projection_center() for image in images_in_order(model())])
    gaps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert gaps.max() / gaps.min() < 1.3


def test_without_originals_the_processed_images_are_written(make_context, outputs, listed):
    names = ("a.png", "b.jpeg", "C.JPG", "d")
    write(ColmapWriter(make_context()), [replace(plane_block(0, 4), names=names)])
    assert listed() == sorted(["a.png.jpg", "b.jpeg", "C.JPG", "d.jpg"])
    image = cv2.imread(str(outputs.root / "colmap" / "images" / "C.JPG"))[..., ::-1]
    expected = plane_block(2, 3).images[0]
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 2


def test_a_name_tells_the_format_of_the_file(make_context, listed, model):
    block = replace(plane_block(0, 3), names=("a.png", "b.tif", "c.PNG"))
    write(ColmapWriter(make_context(originals=FakeOriginals(suffix=".png"))), [block])
    assert listed() == ["a.png", "b.tif.png", "c.PNG"]
    assert [image.name for image in images_in_order(model())] == ["a.png", "b.tif.png", "c.PNG"]


def test_names_may_have_folders(make_context, listed, model):
    block = replace(plane_block(0, 2), names=("left/1.jpg", "right/1.jpg"))
    write(ColmapWriter(make_context(originals=FakeOriginals())), [block])
    assert listed() == ["left/1.jpg", "right/1.jpg"]


def test_there_is_nothing_else_in_the_folder(make_context, outputs):
    write(ColmapWriter(make_context(originals=FakeOriginals())), blocks_of(3))
    others = {name for name in outputs.visible() if not name.startswith("colmap/images/")}
    model_files = ("cameras", "frames", "images", "points3D", "rigs")
    assert others == {"colmap/database.db", *(f"colmap/sparse/0/{name}.bin" for name in model_files)}


def test_the_database_has_the_numbers_and_the_camera_of_the_model(make_context, outputs, model):
    write(ColmapWriter(make_context(originals=FakeOriginals())), blocks_of(FRAMES))
    with pycolmap.Database.open(outputs.root / "colmap" / "database.db") as database:
        images, cameras = database.read_all_images(), database.read_all_cameras()
        assert database.num_frames() == FRAMES
    read = model()
    assert [(image.image_id, image.name) for image in images] == [
        (image.image_id, image.name) for image in images_in_order(read)
    ]
    (camera,) = cameras
    assert camera.params.tolist() == read.cameras[camera.camera_id].params.tolist()


def test_points_stay_few(make_context, model, monkeypatch):
    monkeypatch.setattr("da3stream.writers.colmap.writer._MAX_POINTS", 300)
    write(ColmapWriter(make_context()), blocks_of(FRAMES))
    assert 50 < len(model().points3D) <= 300


@pytest.mark.parametrize("with_originals", [True, False])
def test_no_images_at_all_can_be_asked_for(make_context, model, listed, with_originals):
    originals = FakeOriginals() if with_originals else None
    write(ColmapWriter(make_context(originals=originals, colmap_images=0)), blocks_of(FRAMES))
    read = model()
    assert listed() == []
    assert (read.num_images(), read.num_cameras()) == (0, 1)
    assert len(read.points3D) > 1000


def test_an_input_that_lost_frames_is_refused(make_context, outputs):
    writer = ColmapWriter(make_context(originals=FakeOriginals(forgotten=(9,))))
    writer.add(plane_block(0, 5))
    with pytest.raises(InputError, match="got image 12; expected image 9"):
        writer.finish()
    writer.abort()
    assert outputs.visible() == []
    assert outputs.pending() == []


def test_an_input_that_ends_early_is_refused(make_context):
    writer = ColmapWriter(make_context(originals=FakeOriginals(forgotten=(12,))))
    writer.add(plane_block(0, 5))
    with pytest.raises(InputError, match="got no more images; expected image 12"):
        writer.finish()
    writer.abort()


def test_images_of_several_sizes_are_refused(make_context):
    writer = ColmapWriter(make_context(originals=FakeOriginals()))
    writer.add(plane_block(0, 5))
    block = plane_block(5, 7)
    sizes = block.original_size.copy()
    sizes[1] = [640, 480]
    with pytest.raises(MixedImageSizesError, match="640x480 after 1920x1280"):
        writer.add(replace(block, original_size=sizes))
    writer.abort()


def test_one_name_for_two_frames_is_refused(make_context):
    writer = ColmapWriter(make_context())
    with pytest.raises(InputError, match=r"called 'a\.jpg'"):
        writer.add(replace(plane_block(0, 2), names=("a.jpg", "a.jpg")))
    writer.abort()


def test_a_single_image_has_points_without_tracks_and_says_so(make_context, model):
    context = make_context(originals=FakeOriginals(), colmap_images=1, colmap_points="tracks")
    writer = ColmapWriter(context)
    write(writer, blocks_of(FRAMES))
    assert model().num_images() == 1
    assert len(model().points3D) > 1000
    assert writer.warnings == ("colmap: fewer than two images; its points have no tracks",)
