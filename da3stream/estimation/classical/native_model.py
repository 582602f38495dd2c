"""Our `Reconstruction` as a pycolmap model and back, and its bundle adjustment. Imported by worker processes
only.

Image i has the id i + 1 in a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from da3stream.estimation.classical.native_camera import pinhole
from da3stream.estimation.classical.reconstruction import Reconstruction

MAX_BA_ITERATIONS = 50


def adjust(
    reconstruction: Reconstruction,
    keypoints: tuple[NDArray[np.float32], ...],
    size: tuple[int, int],
    *,
    free_focal: bool,
) -> Reconstruction:
    """Bundle adjustment with a robust loss; with `free_focal` the one focal that all images share is adjusted
    too."""
    model = build_model(reconstruction, keypoints, size, one_focal=free_focal)
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length = free_focal
    options.refine_principal_point = options.refine_extra_params = False
    options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.solver_options.num_threads = 1
    options.ceres.solver_options.max_num_iterations = MAX_BA_ITERATIONS
    pycolmap.bundle_adjustment(model, options)
    silence()
    return read_model(model, reconstruction.intrinsics)


def build_model(
    reconstruction: Reconstruction,
    keypoints: tuple[NDArray[np.float32], ...],
    size: tuple[int, int],
    *,
    one_focal: bool,
) -> pycolmap.Reconstruction:
    """A pycolmap model of the registered images. With `one_focal` all share the camera of the first image."""
    intrinsics = reconstruction.intrinsics[:1] if one_focal else reconstruction.intrinsics
    distinct, camera_of = np.unique(intrinsics, axis=0, return_inverse=True)
    camera_of = np.broadcast_to(np.ravel(camera_of), reconstruction.registered.shape)
    model = pycolmap.Reconstruction()
    for number, matrix in enumerate(distinct, start=1):
        camera = pinhole(matrix, size, focal_known=not one_focal)
        camera.camera_id = number
        model.add_camera_with_trivial_rig(camera)
    for row in np.flatnonzero(reconstruction.registered).tolist():
        image = pycolmap.Image(
            f"{row + 1:06d}", keypoints[row].astype(np.float64), int(camera_of[row]) + 1, row + 1
        )
        pose = pycolmap.Rigid3d(reconstruction.cam_from_submap[row])
        model.add_image_with_trivial_frame(image, pose)
    by_point = reconstruction.observations[np.argsort(reconstruction.observations[:, 2], kind="stable")]
    starts = np.searchsorted(by_point[:, 2], np.arange(len(reconstruction.points) + 1))
    for row, position in enumerate(reconstruction.points):
        seen = by_point[starts[row] : starts[row + 1]].tolist()
        track = pycolmap.Track([pycolmap.TrackElement(image + 1, keypoint) for image, keypoint, _ in seen])
        model.add_point3D(position, track)
    return model


def read_model(model: pycolmap.Reconstruction, intrinsics: NDArray[np.float64]) -> Reconstruction:
    """Arrays of a model of len(intrinsics) images; images that it lacks keep the given intrinsics."""
    poses = np.zeros((len(intrinsics), 3, 4))
    registered = np.zeros(len(intrinsics), dtype=bool)
    cameras = {camera_id: camera.calibration_matrix() for camera_id, camera in model.cameras.items()}
    # With one camera its focal may have been adjusted, and it is that of the missing images as well.
    adjusted = np.array(intrinsics, dtype=np.float64)
    if len(cameras) == 1:
        adjusted[:] = next(iter(cameras.values()))
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        poses[image_id - 1] = image.cam_from_world().matrix()
        registered[image_id - 1] = True
        adjusted[image_id - 1] = cameras[image.camera_id]
    points, observations = _read_points(model)
    return Reconstruction(
        cam_from_submap=poses,
        registered=registered,
        intrinsics=adjusted,
        points=points,
        observations=observations,
    )


def silence() -> None:
    """Keep pycolmap's log to what is fatal; `bundle_adjustment` resets it each time."""
    level: Any = pycolmap.logging.Level.FATAL
    pycolmap.logging.minloglevel = level.value


def _read_points(model: pycolmap.Reconstruction) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Finite points and their sorted observations."""
    positions: list[NDArray[np.float64]] = []
    seen: list[tuple[int, int, int]] = []
    for point_id in sorted(model.points3D):
        point = model.points3D[point_id]
        if np.isfinite(point.xyz).all():
            seen += [(each.image_id - 1, each.point2D_idx, len(positions)) for each in point.track.elements]
            positions.append(point.xyz)
    observations = np.array(sorted(seen), dtype=np.int32).reshape(-1, 3)
    return np.array(positions, dtype=np.float64).reshape(-1, 3), observations
