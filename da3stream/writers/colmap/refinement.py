"""Bundle adjustment of the model. Imported by the worker process only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from da3stream.geometry.rigid3 import invert, nearest_rotation, rotation_angle, to_4x4

WINDOW = 300
"""Images that are adjusted at once; windows overlap by half."""
STRETCHES = 3
"""The cameras of a long capture are adjusted to so many stretches of it."""
MAX_ITERATIONS = 50
MAX_SHIFT = 0.05
"""Of a camera, over its typical depth: where two submaps disagree by 0.02, they are visibly apart
(`placed_map.VISIBLE`); beyond more than twice that, something else than noise was removed."""
MAX_TURN_RAD = 0.05
"""Of a camera; the same for rotations."""
_PERCENTILE = 95
"""Of the cameras that must keep to it: one image that was blurred may move."""


def refine(
    model: Any, typical_depths: Mapping[int, float], triangulate: Callable[[Any], Any]
) -> tuple[Any, dict[str, Any]]:
    """The adjusted model, or the given one if the adjusted one is no better, and what happened.

    Poses that are a few pixels off lose half of the matches in their first triangulation. So the points are
    triangulated again from the adjusted poses, and all is adjusted once more.

    It is kept if its mean reprojection error is smaller and at most 5 % of its cameras have moved by more
    than `MAX_SHIFT` or turned by more than `MAX_TURN_RAD` from where they were. The whole is moved, turned
    and scaled to fit the old cameras.

    Args:
        model: a `pycolmap.Reconstruction` with tracks; it stays as it is.
        typical_depths: image id -> median depth in world units, infinite if unknown.
        triangulate: replaces the points of a model by those that its poses and the matches give.
    """
    adjusted = pycolmap.Reconstruction(model)
    ids = sorted(adjusted.images)
    before = _poses(model, ids)
    if len(model.points3D):
        _adjust(adjusted, ids)
        adjusted = triangulate(adjusted)
        _adjust(adjusted, ids)
        adjusted.transform(_fit(_poses(adjusted, ids), before))
        adjusted.update_point_3d_errors()
    report = _compared(model, adjusted, before, np.array([typical_depths[i] for i in ids]))
    reason = _objection(report)
    report["kept"], report["reason"] = reason is None, reason
    return (adjusted if reason is None else model), report


def _compared(
    model: Any, adjusted: Any, before: NDArray[np.float64], depths: NDArray[np.float64]
) -> dict[str, Any]:
    after = _poses(adjusted, sorted(adjusted.images))
    shifts = np.linalg.norm(after[:, :3, 3] - before[:, :3, 3], axis=1) / depths
    turns = rotation_angle(after[:, :3, :3] @ np.swapaxes(before[:, :3, :3], 1, 2))
    return {
        "mean_reprojection_error_px": {
            "before": round(model.compute_mean_reprojection_error(), 4),
            "after": round(adjusted.compute_mean_reprojection_error(), 4),
        },
        "focal_length_px": {"before": _focal_length_px(model), "after": _focal_length_px(adjusted)},
        "shift_over_depth": round(float(np.percentile(shifts, _PERCENTILE)), 6) if len(shifts) else 0.0,
        "turn_rad": round(float(np.percentile(turns, _PERCENTILE)), 6) if len(turns) else 0.0,
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
    if not report["shift_over_depth"] <= MAX_SHIFT:
        return f"cameras would move by {report['shift_over_depth']:.1%} of the depth, {MAX_SHIFT:.0%} at most"
    if not report["turn_rad"] <= MAX_TURN_RAD:
        return f"cameras would turn by {report['turn_rad']} rad, {MAX_TURN_RAD} at most"
    return None


def _adjust(model: Any, ids: Sequence[int]) -> None:
    """Adjust in place: all at once, or first the cameras and then window by window.

    What images outside of a window see of its points stays in the problem with fixed poses, so that every
    window keeps to its surroundings.
    """
    if len(ids) <= WINDOW:
        _solve(model, ids, cameras_are_free=True)
        return
    one_camera_for_all = len(model.cameras) == 1
    if one_camera_for_all:
        _solve(model, _stretches(ids), cameras_are_free=True)
    for start in range(0, len(ids) - WINDOW // 2, WINDOW // 2):
        _solve(model, ids[start : start + WINDOW], cameras_are_free=not one_camera_for_all)


def _stretches(ids: Sequence[int]) -> list[int]:
    """Images at the beginning, in the middle and at the end, as many as a window holds."""
    length = WINDOW // STRETCHES
    starts = np.linspace(0, len(ids) - length, STRETCHES).astype(int)
    return sorted({ids[row] for start in starts for row in range(start, start + length)})


def _solve(model: Any, ids: Sequence[int], *, cameras_are_free: bool) -> None:
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in ids:
        config.add_image(image_id)
    if len(ids) == len(model.images):
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    else:
        for point_id in _points_beyond(model, ids):
            config.add_variable_point(point_id)
    if not cameras_are_free:
        for camera_id in model.cameras:
            config.set_constant_cam_intrinsics(camera_id)
    pycolmap.create_default_bundle_adjuster(_options(), config, model).solve()
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value


def _points_beyond(model: Any, ids: Iterable[int]) -> list[int]:
    """Points that images of a window see, and others too."""
    inside = set(ids)
    return [
        point_id
        for point_id in sorted(model.points3D)
        if 0 < _count_inside(model.points3D[point_id], inside) < model.points3D[point_id].track.length()
    ]


def _count_inside(point: Any, ids: set[int]) -> int:
    return sum(element.image_id in ids for element in point.track.elements)


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


def _fit(poses: NDArray[np.float64], targets: NDArray[np.float64]) -> Any:
    """The `pycolmap.Sim3d` that takes (N, 4, 4) poses to targets.

    The rotation is the mean of those of the cameras, since the centres alone leave a straight path free to
    turn about itself; scale and translation are those of the centres.
    """
    rotation = nearest_rotation((targets[:, :3, :3] @ np.swapaxes(poses[:, :3, :3], 1, 2)).sum(axis=0))
    centres, goals = poses[:, :3, 3] @ rotation.T, targets[:, :3, 3]
    spread = centres - centres.mean(axis=0)
    extent = float((spread**2).sum())
    scale = float((spread * (goals - goals.mean(axis=0))).sum()) / extent if extent > 0 else 1.0
    translation = goals.mean(axis=0) - scale * centres.mean(axis=0)
    return pycolmap.Sim3d(scale, pycolmap.Rotation3d(rotation), translation)
