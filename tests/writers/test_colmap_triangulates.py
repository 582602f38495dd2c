"""What users do next with colmap/: let COLMAP triangulate features of the images from the poses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from plyfile import PlyData

from da3stream.geometry.camera import pixel_rays, rescale_intrinsics
from da3stream.scene import PoseUncertainty
from da3stream.source.base import OriginalImage
from da3stream.writers.colmap import ColmapWriter, refinement, triangulation
from da3stream.writers.colmap.leeway import MIN_SHIFT, Leeway
from da3stream.writers.colmap.worker_process import WorkerFailedError

from .plane_scene import (
    HEIGHT,
    INTRINSICS,
    PLANE_NORMAL,
    PLANE_OFFSET,
    WIDTH,
    blocks_of,
    plane_block,
    plane_depth,
    write,
)

SIZE = (480, 320)
BLOCK = plane_block(0, 5, frames=9)
TEXELS_PER_UNIT = 75


class RenderedOriginals:
    """The textured plane as a camera of `SIZE` sees it."""

    def originals(self, source_indices: Iterable[int]) -> Iterator[OriginalImage]:
        for row, source_index in enumerate(source_indices):
            _, encoded = cv2.imencode(".png", render(BLOCK.world_from_cam[row]))
            yield OriginalImage(source_index=source_index, suffix=".png", data=bytes(encoded))


def render(world_from_cam: np.ndarray) -> np.ndarray:
    """(height, width) grey values: those of the plane where the rays through the pixel centres meet it."""
    width, height = SIZE
    intrinsics = rescale_intrinsics(INTRINSICS, (WIDTH, HEIGHT), SIZE)
    rays = pixel_rays(intrinsics, height, width) @ world_from_cam[:3, :3].T
    depth = plane_depth(world_from_cam, intrinsics, height, width)
    points = rays * depth[..., None] + world_from_cam[:3, 3]
    place = (points[..., :2] * TEXELS_PER_UNIT + 500).astype(np.float32)
    return cv2.remap(texture(), place[..., 0], place[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)


@cache
def texture() -> np.ndarray:
    """Random blobs of several sizes."""
    rng = np.random.default_rng(5)
    layers = [cv2.GaussianBlur(rng.normal(size=(1000, 1200)), (0, 0), sigma) * sigma for sigma in (2, 4, 9)]
    return cv2.normalize(sum(layers), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def write_folder(make_context, outputs, **options) -> Path:
    """The folder of the rendered plane."""
    names = tuple(f"{i:06d}.png" for i in BLOCK.source_index)
    block = replace(BLOCK, names=names, original_size=np.tile(SIZE, (len(BLOCK), 1)))
    context = make_context(frames=len(BLOCK), originals=RenderedOriginals(), **options)
    writer = ColmapWriter(context)
    write(writer, [block])
    assert writer.warnings == ()
    return outputs.root / "colmap"


def triangulate(colmap: Path) -> pycolmap.Reconstruction:
    """The model with the points of SIFT matches; poses and camera stay as they are."""
    database, images = colmap / "database.db", colmap / "images"
    options = pycolmap.FeatureExtractionOptions()
    options.sift.max_num_features = 600
    options.sift.first_octave = 0
    pycolmap.extract_features(database, images, extraction_options=options, device=pycolmap.Device.cpu)
    pycolmap.match_exhaustive(database, device=pycolmap.Device.cpu)
    return retriangulate(colmap)


def retriangulate(colmap: Path) -> pycolmap.Reconstruction:
    """What `colmap point_triangulator` makes of the folder."""
    model, database = pycolmap.Reconstruction(colmap / "sparse" / "0"), colmap / "database.db"
    return pycolmap.triangulate_points(model, database, colmap / "images", colmap / "triangulated")


def leeway(*, depth: float, sigma: float = 1e-3) -> Leeway:
    """Of three chunks of the plane."""
    chunks = [number * 3 // len(BLOCK) for number in range(len(BLOCK))]
    each = PoseUncertainty(turn_rad=sigma, shift_over_depth=sigma, log_scale=0.0)
    return Leeway.of(chunks, dict.fromkeys(chunks, each), [depth] * len(BLOCK))


def centres(model: pycolmap.Reconstruction) -> np.ndarray:
    return np.array([model.images[i].projection_center() for i in sorted(model.images)])


def ate(model: pycolmap.Reconstruction) -> float:
    """RMS distance of the cameras to the truth after the best similarity."""
    truth = BLOCK.world_from_cam[:, :3, 3]
    fit = pycolmap.estimate_sim3d(centres(model), truth)
    moved = np.array([fit * centre for centre in centres(model)])
    return float(np.sqrt(((moved - truth) ** 2).sum(axis=1).mean()))


def assert_on_the_plane(model: pycolmap.Reconstruction) -> None:
    error = np.array([point.xyz for point in model.points3D.values()]) @ PLANE_NORMAL - PLANE_OFFSET
    assert np.median(np.abs(error)) < 0.015
    assert abs(np.median(error)) < 0.003


def test_colmap_triangulates_the_scene(make_context, outputs):
    """The images pass through no code of ours, so that poses, camera and pixel centres are all tested."""
    model = triangulate(write_folder(make_context, outputs))
    assert model.num_reg_images() == len(BLOCK)
    assert model.num_points3D() > 300
    assert model.compute_mean_track_length() > 3
    assert model.compute_mean_reprojection_error() < 0.12
    assert_on_the_plane(model)


def test_our_tracks_lie_on_the_scene(make_context, outputs):
    model = pycolmap.Reconstruction(write_folder(make_context, outputs, colmap_points="tracks") / "sparse/0")
    assert model.num_points3D() > 300
    assert model.compute_mean_track_length() >= 3
    assert model.compute_mean_reprojection_error() < 0.2
    assert_on_the_plane(model)


def test_colmap_triangulates_from_our_matches(make_context, outputs):
    """The database alone, without the points: the same as ours."""
    colmap = write_folder(make_context, outputs, colmap_points="tracks")
    ours, again = pycolmap.Reconstruction(colmap / "sparse" / "0"), retriangulate(colmap)
    assert again.num_points3D() == ours.num_points3D()
    assert again.compute_mean_track_length() == ours.compute_mean_track_length()


def test_features_matches_and_model_agree(make_context, outputs):
    colmap = write_folder(make_context, outputs, colmap_points="tracks")
    model = pycolmap.Reconstruction(colmap / "sparse" / "0")
    with pycolmap.Database.open(colmap / "database.db") as database:
        assert database.num_verified_image_pairs() > len(BLOCK)
        for image_id, image in model.images.items():
            keypoints = database.read_keypoints(image_id)[:, :2]
            assert database.num_descriptors_for_image(image_id) == len(keypoints)
            assert np.array_equal(keypoints, np.array([point.xy for point in image.points2D]))


def test_bundle_adjustment_keeps_the_truth(make_context, outputs):
    model = pycolmap.Reconstruction(write_folder(make_context, outputs, colmap_points="tracks") / "sparse/0")
    observations = model.compute_num_observations()
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    pycolmap.bundle_adjustment(model, options)
    pycolmap.ObservationManager(model).filter_all_points3D(4.0, 1.5)
    assert model.compute_num_observations() >= 0.9 * observations
    assert model.compute_mean_reprojection_error() <= 1.0
    assert ate(model) < 0.005


def test_a_folder_is_the_same_when_made_twice(make_context, outputs):
    files = [
        [path.read_bytes() for path in sorted(colmap.rglob("*")) if path.is_file()]
        for colmap in (write_folder(make_context, outputs, colmap_points="tracks"),)
    ]
    (outputs.root / "colmap").rename(outputs.root / "first")
    colmap = write_folder(make_context, outputs, colmap_points="tracks")
    files.append([path.read_bytes() for path in sorted(colmap.rglob("*")) if path.is_file()])
    assert files[0] == files[1]


@pytest.mark.slow
def test_a_folder_is_the_same_whatever_the_number_of_workers(make_context, outputs, monkeypatch):
    made = []
    for workers in (1, 3):
        monkeypatch.setattr("da3stream.writers.colmap.writer._workers", lambda workers=workers: workers)
        colmap = write_folder(make_context, outputs, colmap_points="tracks")
        made.append({path.name: path.read_bytes() for path in colmap.rglob("*") if path.is_file()})
        colmap.rename(outputs.root / f"with {workers}")
    assert made[0] == made[1]


def test_text_and_binary_hold_the_same(make_context, outputs):
    sparse = write_folder(make_context, outputs, colmap_points="both", colmap_format="both") / "sparse" / "0"
    binary, text = pycolmap.Reconstruction(), pycolmap.Reconstruction()
    binary.read_binary(sparse)
    text.read_text(sparse)
    assert binary.num_points3D() == text.num_points3D() > 1000
    assert binary.compute_num_observations() == text.compute_num_observations() > 1000
    assert np.allclose(centres(binary), centres(text), atol=1e-12)


def test_a_splatting_trainer_pairs_every_image(make_context, outputs):
    """gsplat pairs the sorted listing of images/ with the sorted names of the model."""
    colmap = write_folder(make_context, outputs, colmap_points="tracks")
    model = pycolmap.Reconstruction(colmap / "sparse" / "0")
    listed = sorted(path.name for path in (colmap / "images").iterdir())
    assert listed == sorted(image.name for image in model.images.values())
    assert {camera.model.name for camera in model.cameras.values()} == {"PINHOLE"}


def test_the_dense_points_lie_beside_the_model(make_context, outputs):
    """As trainers of 3D Gaussians read them: with plyfile, positions, colours and normals."""
    colmap = write_folder(make_context, outputs, colmap_points="tracks")
    vertex = PlyData.read(colmap / "sparse" / "0" / "points3D.ply")["vertex"]
    points = np.stack([vertex["x"], vertex["y"], vertex["z"]], axis=1)
    assert len(points) > 1000
    assert np.abs(points @ PLANE_NORMAL - PLANE_OFFSET).max() < 1e-4
    assert not np.any([vertex["nx"], vertex["ny"], vertex["nz"]])
    assert vertex["red"].dtype == np.uint8


@pytest.mark.parametrize("window", [pytest.param(300, marks=pytest.mark.slow), 4])
def test_refinement_brings_wrong_poses_nearer_to_the_truth(make_context, outputs, monkeypatch, window):
    model = pycolmap.Reconstruction(write_folder(make_context, outputs, colmap_points="tracks") / "sparse/0")
    monkeypatch.setattr(refinement, "WINDOW", window)
    rng = np.random.default_rng(3)
    for frame in model.frames.values():
        shifted = frame.rig_from_world.matrix()
        shifted[:, 3] += rng.normal(size=3) * 0.01
        frame.rig_from_world = pycolmap.Rigid3d(shifted)
    (outputs.root / "scratch").mkdir()

    def triangulated(model: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
        return triangulation.triangulate(model, outputs.root / "colmap", outputs.root / "scratch")

    wrong = triangulated(model)
    error = ate(wrong)
    refined, report = refinement.refine(wrong, leeway(depth=6.0, sigma=1e-2), triangulated)
    assert report["kept"], report
    assert ate(refined) < 0.5 * error
    assert np.abs(centres(refined) - centres(wrong)).max() < 0.12, "it must stay where it was"


def test_what_goes_beyond_the_uncertainty_is_not_kept_and_what_fits_is(make_context, outputs):
    """The same refinement of cameras that are off by a hundredth, of chunks that are more or less certain."""
    model = pycolmap.Reconstruction(write_folder(make_context, outputs, colmap_points="tracks") / "sparse/0")
    rng = np.random.default_rng(3)
    for frame in model.frames.values():
        shifted = frame.rig_from_world.matrix()
        shifted[:, 3] += 0.025 * rng.normal(size=3)
        frame.rig_from_world = pycolmap.Rigid3d(shifted)
    (outputs.root / "scratch").mkdir()

    def triangulated(model: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
        return triangulation.triangulate(model, outputs.root / "colmap", outputs.root / "scratch")

    wrong = triangulated(model)
    kept, report = refinement.refine(wrong, leeway(depth=3.0, sigma=1e-4), triangulated)
    assert kept is wrong
    assert not report["kept"]
    assert "of the depth" in report["reason"]
    assert report["shift_over_depth"] > report["shift_allowed"] == pytest.approx(MIN_SHIFT)
    refined, report = refinement.refine(wrong, leeway(depth=3.0, sigma=1e-2), triangulated)
    assert report["kept"], report
    assert ate(refined) < 0.5 * ate(wrong)
    assert MIN_SHIFT < report["shift_over_depth"] < report["shift_allowed"] <= 0.05


def test_refinement_is_told_in_the_report(make_context, outputs):
    names = tuple(f"{i:06d}.png" for i in BLOCK.source_index)
    block = replace(BLOCK, names=names, original_size=np.tile(SIZE, (len(BLOCK), 1)))
    options = {"colmap_points": "tracks", "refine": "ba", "camera_model": "SIMPLE_RADIAL"}
    writer = ColmapWriter(make_context(frames=len(BLOCK), originals=RenderedOriginals(), **options))
    write(writer, [block])
    error = writer.report["refinement"]["mean_reprojection_error_px"]
    model = pycolmap.Reconstruction(outputs.root / "colmap" / "sparse" / "0")
    assert writer.report["refinement"]["kept"]
    assert error["after"] < error["before"]
    assert model.compute_mean_reprojection_error() == pytest.approx(error["after"], abs=1e-3)
    assert abs(model.cameras[1].params[3]) < 0.02, "the rendered camera has no distortion"
    assert not (outputs.root / "colmap" / "sparse" / "0" / "points3D.ply").exists()


def test_the_database_has_the_relative_poses_of_the_refined_model(make_context, outputs):
    wrong = BLOCK.world_from_cam.copy()
    wrong[:, :3, 3] += 0.01 * np.random.default_rng(3).normal(size=(len(BLOCK), 3))
    relative = {}
    for refine in ("none", "ba"):
        block = replace(
            BLOCK,
            world_from_cam=wrong,
            names=tuple(f"{i:06d}.png" for i in BLOCK.source_index),
            original_size=np.tile(SIZE, (len(BLOCK), 1)),
        )
        options = {"colmap_points": "tracks", "refine": refine, "originals": RenderedOriginals()}
        uncertain = {0: PoseUncertainty(turn_rad=1e-2, shift_over_depth=1e-2, log_scale=0.0)}
        context = replace(make_context(frames=len(BLOCK), **options), pose_uncertainties=uncertain)
        writer = ColmapWriter(context)
        write(writer, [block])
        assert refine == "none" or writer.report["refinement"]["kept"], writer.report
        colmap = outputs.root / "colmap"
        model = pycolmap.Reconstruction(colmap / "sparse" / "0")
        with pycolmap.Database.open(colmap / "database.db") as database:
            pair_ids, geometries = database.read_two_view_geometries()
        relative[refine] = [geometry.cam2_from_cam1.matrix() for geometry in geometries]
        for pair_id, geometry in zip(pair_ids, geometries, strict=True):
            first, second = (model.images[i] for i in pycolmap.pair_id_to_image_pair(pair_id))
            expected = second.cam_from_world() * first.cam_from_world().inverse()
            assert np.allclose(geometry.cam2_from_cam1.matrix(), expected.matrix(), atol=1e-9)
            assert len(geometry.inlier_matches) >= 15
        colmap.rename(outputs.root / refine)
    assert not np.allclose(relative["none"], relative["ba"], atol=1e-3)


def test_every_image_may_have_its_own_camera(make_context, outputs):
    colmap = write_folder(make_context, outputs, colmap_points="tracks", per_frame_cameras=True)
    model = pycolmap.Reconstruction(colmap / "sparse" / "0")
    assert len(model.cameras) == len({image.camera_id for image in model.images.values()}) == len(BLOCK)
    assert model.num_points3D() > 300


def test_a_crash_of_the_library_costs_the_tracks_only(make_context, outputs, monkeypatch):
    def crash(*_: object) -> None:
        raise WorkerFailedError("its process crashed with SIGSEGV")

    monkeypatch.setattr("da3stream.writers.colmap.writer.run_worker", crash)
    writer = ColmapWriter(make_context(frames=24, colmap_points="tracks"))
    write(writer, blocks_of(24))
    assert "no tracks" in writer.warnings[0]
    model = pycolmap.Reconstruction(outputs.root / "colmap" / "sparse" / "0")
    assert model.num_reg_images() == 24
    assert model.num_points3D() > 1000
