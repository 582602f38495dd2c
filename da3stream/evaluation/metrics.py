"""Absolute and relative trajectory error.

After Sturm et al., "A benchmark for the evaluation of RGB-D SLAM systems", IROS 2012.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import ConfigError, InputError
from da3stream.evaluation.association import Method, associate
from da3stream.evaluation.pose_sequence import PoseSequence
from da3stream.geometry.registration import umeyama
from da3stream.geometry.rigid3 import invert, rotation_angle
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import Trajectory

Array = NDArray[np.float64]
Alignment = Literal["sim3", "se3", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorStatistics:
    """Summary of an error over all frames or pairs of frames, in the unit of the error."""

    rmse: float
    mean: float
    median: float
    max: float

    @classmethod
    def of(cls, errors: Array) -> ErrorStatistics:
        """Statistics of (M,) errors >= 0, M >= 1."""
        return cls(
            rmse=float(np.sqrt(np.mean(np.square(errors)))),
            mean=float(errors.mean()),
            median=float(np.median(errors)),
            max=float(errors.max()),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """How far an estimate is from the truth. Lengths are in the unit of the truth."""

    method: Method
    """How poses were paired: by names, timestamps or index."""
    alignment: Alignment
    """What the estimate was fitted to the truth with: a similarity, a rigid motion, or nothing."""
    associated_frames: int
    """Number of pairs."""
    estimate_frames: int
    truth_frames: int
    path_length: float
    """Of the truth, along the associated frames."""
    truth_from_estimate: Sim3
    """The fit that was applied before errors were measured; its scale is 1 unless the alignment is sim3."""
    ate: ErrorStatistics
    """Distance of the camera centres."""
    rpe_delta_frames: int
    """Distance in associated frames of the two poses whose relative motion is compared."""
    rpe_translation: ErrorStatistics | None
    """Translation of the error of the relative motion; None with too few frames for a pair."""
    rpe_rotation_deg: ErrorStatistics | None
    """Rotation angle of that error in degrees; None with too few frames for a pair."""
    aligned_positions: Array
    """(M, 3) estimated camera centres after the fit, in the world frame of the truth."""
    true_positions: Array
    """(M, 3) their true counterparts."""

    @property
    def scale(self) -> float:
        """Units of the truth per unit of the estimate."""
        return float(self.truth_from_estimate.scale)

    @property
    def ate_percent(self) -> float:
        """RMSE of the ATE in percent of the path length; infinite where the camera stands still."""
        return 100 * self.ate.rmse / self.path_length if self.path_length > 0 else float("inf")

    def to_dict(self) -> dict[str, Any]:
        """Everything but the positions, as plain JSON values."""
        fit = self.truth_from_estimate
        return {
            "association": self.method,
            "alignment": self.alignment,
            "associated_frames": self.associated_frames,
            "estimate_frames": self.estimate_frames,
            "truth_frames": self.truth_frames,
            "path_length": self.path_length,
            "scale": self.scale,
            "ate": asdict(self.ate),
            "ate_percent": self.ate_percent if self.path_length > 0 else None,
            "rpe_delta_frames": self.rpe_delta_frames,
            "rpe_translation": None if self.rpe_translation is None else asdict(self.rpe_translation),
            "rpe_rotation_deg": None if self.rpe_rotation_deg is None else asdict(self.rpe_rotation_deg),
            "truth_from_estimate": {
                "rotation": fit.rotation.tolist(),
                "translation": fit.translation.tolist(),
            },
        }


def evaluate(
    estimate: PoseSequence | Trajectory,
    truth: PoseSequence,
    *,
    alignment: Alignment = "sim3",
    max_time_difference_s: float = 0.01,
    rpe_delta_frames: int = 1,
) -> Evaluation:
    """Compare an estimated trajectory with the truth.

    Args:
        estimate: a file that was read with `load_trajectory`, or the trajectory of a result.
        truth: likewise.
        alignment: sim3 fits rotation, translation and scale first (monocular), se3 leaves the scale, none
            nothing.
        max_time_difference_s: see `associate`.
        rpe_delta_frames: relative motions are taken over this many associated frames, from every frame.

    Raises:
        InputError: nothing can be associated, or too little for the alignment.
        ConfigError: an argument is out of range.
    """
    _check_arguments(alignment, max_time_difference_s, rpe_delta_frames)
    if isinstance(estimate, Trajectory):
        estimate = PoseSequence.from_trajectory(estimate)
    pairs = associate(estimate, truth, max_time_difference_s=max_time_difference_s)
    estimated = estimate.world_from_cam[pairs.estimate_rows]
    true = truth.world_from_cam[pairs.truth_rows]
    fit = _align(estimated[:, :3, 3], true[:, :3, 3], alignment)
    aligned = fit.move_pose(estimated)
    relative = _relative_errors(aligned, true, rpe_delta_frames)
    return Evaluation(
        method=pairs.method,
        alignment=alignment,
        associated_frames=len(pairs),
        estimate_frames=len(estimate),
        truth_frames=len(truth),
        path_length=float(np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1).sum()),
        truth_from_estimate=fit,
        ate=ErrorStatistics.of(np.linalg.norm(aligned[:, :3, 3] - true[:, :3, 3], axis=1)),
        rpe_delta_frames=rpe_delta_frames,
        rpe_translation=_statistics(np.linalg.norm(relative[:, :3, 3], axis=1)),
        rpe_rotation_deg=_statistics(np.degrees(rotation_angle(relative[:, :3, :3])))
        if len(relative)
        else None,
        aligned_positions=aligned[:, :3, 3],
        true_positions=true[:, :3, 3],
    )


def _check_arguments(alignment: str, max_time_difference_s: float, rpe_delta_frames: int) -> None:
    if alignment not in get_args(Alignment):
        raise ConfigError("unknown alignment", got=repr(alignment), expected=" or ".join(get_args(Alignment)))
    if rpe_delta_frames < 1:
        raise ConfigError("the distance of the RPE must be at least one frame", got=rpe_delta_frames)
    if not max_time_difference_s >= 0:
        raise ConfigError("the largest time difference must not be negative", got=max_time_difference_s)


def _align(estimated: Array, true: Array, alignment: Alignment) -> Sim3:
    """truth_from_estimate of (M, 3) camera centres."""
    if alignment == "none":
        return Sim3.identity()
    if len(true) < 3:
        raise InputError(
            f"an alignment ({alignment}) needs at least three associated frames",
            got=len(true),
            hint="--alignment none compares without one.",
        )
    try:
        return umeyama(estimated, true, with_scale=alignment == "sim3")
    except ValueError as error:
        raise InputError(
            f"the trajectories cannot be aligned: {error}", hint="--alignment none compares without it."
        ) from error


def _relative_errors(estimated: Array, true: Array, delta: int) -> Array:
    """(max(M - delta, 0), 4, 4): by how much motions over `delta` frames differ."""
    true_motion = invert(true[:-delta]) @ true[delta:]
    return invert(true_motion) @ invert(estimated[:-delta]) @ estimated[delta:]


def _statistics(errors: Array) -> ErrorStatistics | None:
    return ErrorStatistics.of(errors) if len(errors) else None
