"""Bundle adjustment of the model. Imported by the worker process only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from da3stream.geometry.rigid3 import invert, to_4x4
from da3stream.geometry.sim3 import Sim3
from da3stream.writers.colmap.leeway import Leeway, Movement, similarity
from da3stream.writers.colmap.skeleton import evenly, followed, thinned

WINDOW = 300
"""Images that are adjusted at once; windows overlap by half."""
MAX_ITERATIONS = 50


def refine(model: Any, leeway: Leeway, triangulate: Callable[[Any], Any]) -> tuple[Any, dict[str, Any]]:
    """The adjusted model, or the given one if the adjusted one is no better, and what happened.

    Poses that are a few pixels off lose half of the matches in their first triangulation. So the points are
    triangulated again from the adjusted poses, and all is adjusted once more. Of a long capture these two
    rounds adjust the shared camera and a part of the images; all of them are then adjusted window by window.

    It is kept if its mean reprojection error is smaller and no stretch of the path is bent by more than its
    leeway. The whole is moved, turned and scaled to fit the old cameras.

    Args:
        model: a `pycolmap.Reconstruction` with tracks; it stays as it is.
        leeway: how far its cameras may move.
        triangulate: replaces the points of a model by those that its poses and the matches give.
    """
    adjusted = pycolmap.Reconstruction(model)
    ids = _ids(adjusted)
    before = _poses(model, ids)
    if len(model.points3D):
        _adjust(adjusted)
        adjusted = triangulate(adjusted)
        _adjust(adjusted)
        if len(ids) > WINDOW and len(model.cameras) == 1:
            adjusted = triangulate(adjusted)
            _adjust_windows(adjusted, cameras_are_free=False)
        adjusted.transform(_native(similarity(_poses(adjusted, ids), before)))
        adjusted.update_point_3d_errors()
    report = _compared(model, adjusted, leeway.worst(before, _poses(adjusted, ids)))
    reason = _objection(report)
    report["kept"], report["reason"] = reason is None, reason
    return (adjusted if reason is None else model), report


def _compared(model: Any, adjusted: Any, movement: Movement) -> dict[str, Any]:
    return {
        "mean_reprojection_error_px": {
            "before": round(model.compute_mean_reprojection_error(), 4),
            "after": round(adjusted.compute_mean_reprojection_error(), 4),
        },
        "focal_length_px": {"before": _focal_length_px(model), "after": _focal_length_px(adjusted)},
        **{name: round(value, 6) for name, value in asdict(movement).items()},
    }


def _focal_length_px(model: Any) -> float:
    """The median over the cameras."""
    lengths = [camera.mean_focal_length() for camera in model.cameras.values()]
    return round(float(np.median(lengths)), 2) if lengths else 0.0


def _objection(report: Mapping[str, Any]) -> str | None:
    """Why the adjusted model is not kept; None if it is."""
    error = report["mean_reprojection_error_px"]
    if not error["after"] < error["before"]:
        return f"the mean reprojection error did not fall ({error['before']} px, then {error['after']} px)"
    if not report["shift_over_depth"] <= report["shift_allowed"]:
        return (
            f"cameras of a stretch would move by {report['shift_over_depth']:.2%} of the depth, "
            f"{report['shift_allowed']:.2%} at most by what the chunks are uncertain"
        )
    if not report["turn_rad"] <= report["turn_allowed_rad"]:
        return (
            f"cameras of a stretch would turn by {report['turn_rad']:.4f} rad, "
            f"{report['turn_allowed_rad']:.4f} at most by what the chunks are uncertain"
        )
    return None


def _adjust(model: Any) -> None:
    """Adjust in place: all at once, or a thinned model that the others follow, or window by window if every
    image has a camera of its own."""
    if model.num_reg_images() <= WINDOW:
        _solve(model, _ids(model), cameras_are_free=True)
    elif len(model.cameras) == 1:
        _adjust_thinned(model)
    else:
        _adjust_windows(model, cameras_are_free=True)


def _adjust_thinned(model: Any) -> None:
    """Adjust the camera and the poses of as many images as a window holds, evenly over the path.

    The others follow. The points stay where they were: they are to be triangulated again. Of paths that are
    too long for that, the camera is adjusted to the middle, and the poses in windows.
    """
    ids = _ids(model)
    chosen = evenly(ids, WINDOW)
    sparse = thinned(model, chosen)
    if len(chosen) <= WINDOW:
        _solve(sparse, chosen, cameras_are_free=True)
    else:
        start = (len(chosen) - WINDOW) // 2
        middle = thinned(sparse, chosen[start : start + WINDOW])
        _solve(middle, _ids(middle), cameras_are_free=True)
        _take_cameras(sparse, middle)
        _adjust_windows(sparse, cameras_are_free=False)
    _take_cameras(model, sparse)
    rows = np.searchsorted(ids, chosen)
    poses = followed(_poses(model, ids), rows, _poses(sparse, chosen))
    for image_id, cam_from_world in zip(ids, invert(poses), strict=True):
        frame = model.frames[model.images[image_id].frame_id]
        frame.rig_from_world = pycolmap.Rigid3d(cam_from_world[:3])


def _take_cameras(model: Any, other: Any) -> None:
    for camera_id, camera in model.cameras.items():
        camera.params = other.cameras[camera_id].params


def _adjust_windows(model: Any, *, cameras_are_free: bool) -> None:
    """Adjust in place window by window.

    What images outside of a window see of its points stays in the problem with fixed poses, so that every
    window keeps to its surroundings.
    """
    ids = _ids(model)
    for start in range(0, len(ids) - WINDOW // 2, WINDOW // 2):
        _solve(model, ids[start : start + WINDOW], cameras_are_free=cameras_are_free)


def _ids(model: Any) -> list[int]:
    return sorted(model.reg_image_ids())


def _solve(model: Any, ids: Sequence[int], *, cameras_are_free: bool) -> None:
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in ids:
        config.add_image(image_id)
    if len(ids) == model.num_reg_images():
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    else:
        for point_id in _points_beyond(model, ids):
            config.add_variable_point(point_id)
    if not cameras_are_free:
        for camera_id in model.cameras:
            config.set_constant_cam_intrinsics(camera_id)
    pycolmap.create_default_bundle_adjuster(_options(), config, model).solve()
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value


def _points_beyond(model: Any, ids: Sequence[int]) -> list[int]:
    """Points that images of a window see, and others too."""
    inside = set(ids)
    seen = {
        place.point3D_id for i in ids for place in model.images[i].points2D if place.has_point3D()
    }  # not all points of the model: there are as many windows as there are images
    return [
        point_id
        for point_id in sorted(seen)
        if any(element.image_id not in inside for element in model.points3D[point_id].track.elements)
    ]


def _options() -> Any:
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.solver_options.num_threads = 1
    options.ceres.solver_options.max_num_iterations = MAX_ITERATIONS
    return options


def _poses(model: Any, ids: Sequence[int]) -> NDArray[np.float64]:
    """(N, 4, 4) camera to world."""
    poses = [model.images[image_id].cam_from_world().matrix() for image_id in ids]
    return invert(to_4x4(np.array(poses, dtype=np.float64).reshape(-1, 3, 4)))


def _native(transform: Sim3) -> Any:
    return pycolmap.Sim3d(
        float(transform.scale), pycolmap.Rotation3d(transform.rotation), transform.translation
    )
