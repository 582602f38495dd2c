"""Structure from motion by pycolmap: matched images in, poses and points out. Imported by worker processes
only.

Everything is limited by counts, seeded and single-threaded, so that a chunk gives the same numbers on every
run.
"""

from __future__ import annotations

import numpy as np
import pycolmap
from numpy.typing import NDArray

from da3stream.estimation.classical.jobs import MapperName
from da3stream.estimation.classical.native_camera import pinhole
from da3stream.estimation.classical.native_model import build_model, read_model
from da3stream.estimation.classical.reconstruction import Reconstruction
from da3stream.estimation.classical.view_graph import TwoView, ViewGraph

MIN_REGISTERED = 3
MAX_BA_ITERATIONS = 30
"""Of each bundle adjustment in the global mapper; it does three or more. A wrong start would use up its
200."""
MIN_TRIANGULATION_DEG = 1.0
MIN_REGISTRATION_INLIERS = 12
MAX_STARTS = 20
INITIAL_TRIANGULATION_DEG = 4.0
"""COLMAP goes down to half of it where no pair has as much."""


def map_images(
    graph: ViewGraph,
    intrinsics: NDArray[np.float64],
    size: tuple[int, int],
    *,
    mapper: MapperName,
    seed: int,
) -> Reconstruction | None:
    """The largest model that a mapper finds with these intrinsics, or None."""
    pycolmap.set_random_seed(seed)
    manager = pycolmap.ReconstructionManager()
    with pycolmap.Database.open(":memory:") as database:
        fill_database(database, graph, intrinsics, size)
        if mapper == "global":
            pycolmap.GlobalPipeline(_global_options(seed), database, manager).run()
        else:
            # A bad pair to start from ends in a model of a few images; others are tried until it holds half.
            for least in (max(MIN_REGISTERED, len(np.unique(graph.pairs)) // 2), MIN_REGISTERED):
                if manager.size() == 0:
                    pycolmap.IncrementalPipeline(_incremental_options(seed, least), database, manager).run()
    models = [manager.get(row) for row in range(manager.size())]
    if not models:
        return None
    model = max(models, key=lambda each: each.num_reg_images())
    if model.num_reg_images() < MIN_REGISTERED or model.num_points3D() == 0:
        return None
    return read_model(model, intrinsics)


def triangulate(
    graph: ViewGraph,
    intrinsics: NDArray[np.float64],
    cam_from_world: NDArray[np.float64],
    size: tuple[int, int],
    *,
    seed: int,
) -> Reconstruction:
    """Points of the matches at known poses (N, 3, 4), which stay as they are; all images are registered.

    Image by image, then tracks are completed and merged, and what does not fit is filtered, as COLMAP's
    point_triangulator does it.
    """
    pycolmap.set_random_seed(seed)
    options = _incremental_options(seed, MIN_REGISTERED)
    bare = Reconstruction(
        cam_from_submap=cam_from_world,
        registered=np.ones(len(cam_from_world), dtype=bool),
        intrinsics=intrinsics,
        points=np.zeros((0, 3)),
        observations=np.zeros((0, 3), dtype=np.int32),
    )
    with pycolmap.Database.open(":memory:") as database:
        fill_database(database, graph, intrinsics, size)
        cache = pycolmap.DatabaseCache.create(database, pycolmap.DatabaseCacheOptions())
        model = build_model(bare, graph.keypoints, size, one_focal=False)
        mapper = pycolmap.IncrementalMapper(cache)
        mapper.begin_reconstruction(model)
        for image_id in sorted(model.images):
            mapper.triangulate_image(options.triangulation, image_id)
        mapper.complete_and_merge_tracks(options.triangulation)
        mapper.filter_points(options.mapper)
        found = read_model(model, intrinsics)
        mapper.end_reconstruction(False)
    return found


def fill_database(
    database: pycolmap.Database,
    graph: ViewGraph,
    intrinsics: NDArray[np.float64],
    size: tuple[int, int],
) -> None:
    """Write cameras, images, keypoints and verified matches. Image i gets the ids i + 1."""
    distinct, camera_of = np.unique(intrinsics, axis=0, return_inverse=True)
    cameras = []
    for number, matrix in enumerate(distinct, start=1):
        camera = pinhole(matrix, size, focal_known=True)
        camera.camera_id = number
        database.write_camera(camera, use_camera_id=True)
        rig = pycolmap.Rig(rig_id=number)
        rig.add_ref_sensor(camera.sensor_id)
        database.write_rig(rig, use_rig_id=True)
        cameras.append(camera)
    for row, keypoints in enumerate(graph.keypoints):
        _write_image(database, row + 1, int(np.ravel(camera_of)[row]) + 1, keypoints)
    for (first, second), view in zip(graph.pairs.tolist(), graph.two_views, strict=True):
        matches = view.matches.astype(np.uint32)
        database.write_matches(first + 1, second + 1, matches)
        database.write_two_view_geometry(first + 1, second + 1, _two_view_geometry(view))


def _write_image(
    database: pycolmap.Database, image_id: int, camera_id: int, keypoints: NDArray[np.float32]
) -> None:
    image = pycolmap.Image(name=f"{image_id:06d}", camera_id=camera_id, image_id=image_id)
    frame = pycolmap.Frame(frame_id=image_id, rig_id=camera_id)
    image.frame_id = image_id
    frame.add_data_id(image.data_id)
    database.write_frame(frame, use_frame_id=True)
    database.write_image(image, use_image_id=True)
    unit_shape = np.zeros((len(keypoints), 2), np.float32)
    unit_shape[:, 0] = 1.0
    database.write_keypoints(image_id, np.concatenate([keypoints, unit_shape], axis=1))


def _two_view_geometry(view: TwoView) -> pycolmap.TwoViewGeometry:
    geometry = pycolmap.TwoViewGeometry()
    geometry.config = pycolmap.TwoViewGeometryConfiguration(view.kind)
    geometry.inlier_matches = view.matches.astype(np.uint32)
    for name, matrix in (("F", view.fundamental), ("E", view.essential), ("H", view.homography)):
        if np.isfinite(matrix).all():
            setattr(geometry, name, matrix)
    return geometry


def _incremental_options(seed: int, least_images: int) -> pycolmap.IncrementalPipelineOptions:
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    options.num_threads = options.mapper.num_threads = 1
    options.extract_colors = False
    options.multiple_models = True
    options.max_num_models = 1
    options.min_model_size = least_images
    options.init_num_trials = MAX_STARTS
    options.ba_refine_focal_length = options.ba_refine_principal_point = options.ba_refine_extra_params = (
        False
    )
    options.mapper.abs_pose_refine_focal_length = options.mapper.abs_pose_refine_extra_params = False
    options.mapper.init_min_tri_angle = INITIAL_TRIANGULATION_DEG
    options.mapper.init_min_num_inliers = 50
    # Vehicles drive straight on: a pair along the optical axis may be the best there is to start from.
    options.mapper.init_max_forward_motion = 1.0
    # Few matches hold the two sides of a jump in the video together; tracks of two views help there as well.
    options.mapper.abs_pose_min_num_inliers = MIN_REGISTRATION_INLIERS
    options.triangulation.ignore_two_view_tracks = False
    options.mapper.filter_min_tri_angle = MIN_TRIANGULATION_DEG
    options.mapper.ba_local_min_tri_angle = MIN_TRIANGULATION_DEG
    options.triangulation.min_angle = MIN_TRIANGULATION_DEG
    return options


def _global_options(seed: int) -> pycolmap.GlobalPipelineOptions:
    options = pycolmap.GlobalPipelineOptions()
    mapper = options.mapper
    options.random_seed = mapper.random_seed = seed
    mapper.rotation_averaging.random_seed = mapper.global_positioning.random_seed = seed
    mapper.retriangulation.random_seed = seed
    options.num_threads = mapper.num_threads = mapper.bundle_adjustment.ceres.solver_options.num_threads = 1
    mapper.global_positioning.use_gpu = mapper.bundle_adjustment.ceres.use_gpu = False
    mapper.bundle_adjustment.ceres.solver_options.max_num_iterations = MAX_BA_ITERATIONS
    mapper.bundle_adjustment.refine_focal_length = False
    mapper.bundle_adjustment.refine_principal_point = False
    mapper.bundle_adjustment.refine_extra_params = False
    return options
