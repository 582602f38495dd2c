from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from da3stream.errors import ConfigError, InputError
from da3stream.evaluation import PoseSequence, evaluate
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import Trajectory

evo_metrics = pytest.importorskip("evo.core.metrics")
evo_trajectory = pytest.importorskip("evo.core.trajectory")


def as_evo(poses: PoseSequence):
    return evo_trajectory.PoseTrajectory3D(poses_se3=list(poses.world_from_cam), timestamps=poses.timestamp_s)


def evo_statistics(metric, truth, estimate) -> dict[str, float]:
    metric.process_data((truth, estimate))
    return metric.get_all_statistics()


@pytest.mark.parametrize("alignment", ["sim3", "se3", "none"])
@pytest.mark.parametrize("delta", [1, 7])
def test_agrees_with_evo(truth, estimate, alignment, delta):
    evaluation = evaluate(estimate, truth, alignment=alignment, rpe_delta_frames=delta)
    theirs, their_truth = as_evo(estimate), as_evo(truth)
    if alignment != "none":
        theirs.align(their_truth, correct_scale=alignment == "sim3")
    relation = evo_metrics.PoseRelation
    expected = {
        "ate": evo_metrics.APE(relation.translation_part),
        "rpe_translation": evo_metrics.RPE(
            relation.translation_part, delta, evo_metrics.Unit.frames, all_pairs=True
        ),
        "rpe_rotation_deg": evo_metrics.RPE(
            relation.rotation_angle_deg, delta, evo_metrics.Unit.frames, all_pairs=True
        ),
    }
    for name, metric in expected.items():
        statistics = evo_statistics(metric, their_truth, theirs)
        for field in ("rmse", "mean", "median", "max"):
            assert getattr(getattr(evaluation, name), field) == pytest.approx(statistics[field], abs=1e-6), (
                name
            )
    assert evaluation.path_length == pytest.approx(their_truth.path_length, abs=1e-9)


def test_a_trajectory_is_no_distance_from_itself_in_another_frame(truth):
    gauge = Sim3(scale=2.5, rotation=np.diag([-1.0, -1.0, 1.0]), translation=[1.0, 2.0, 3.0])
    moved = replace(truth, world_from_cam=gauge.move_pose(truth.world_from_cam))
    evaluation = evaluate(moved, truth)
    assert evaluation.ate.max < 1e-10
    assert evaluation.rpe_rotation_deg.max < 1e-5
    assert evaluation.scale == pytest.approx(1 / 2.5)
    np.testing.assert_allclose(evaluation.aligned_positions, truth.positions, atol=1e-10)
    assert evaluate(moved, truth, alignment="se3").ate.rmse > 1


def test_percentages_are_of_the_associated_path():
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 0, 3] = np.arange(5.0)
    truth = PoseSequence(world_from_cam=poses, timestamp_s=np.arange(5.0))
    shifted = poses[:3].copy()
    shifted[:, 1, 3] += 0.5
    evaluation = evaluate(
        PoseSequence(world_from_cam=shifted, timestamp_s=np.arange(3.0)), truth, alignment="none"
    )
    assert evaluation.path_length == 2
    assert evaluation.ate.rmse == evaluation.ate.max == 0.5
    assert evaluation.ate_percent == 25
    assert (evaluation.associated_frames, evaluation.estimate_frames, evaluation.truth_frames) == (3, 3, 5)
    assert evaluation.rpe_translation.max == 0


def test_the_dictionary_is_json(truth, estimate):
    content = json.loads(json.dumps(evaluate(estimate, truth).to_dict(), allow_nan=False))
    assert content["association"] == "timestamps"
    assert content["associated_frames"] == 120
    assert set(content["ate"]) == {"rmse", "mean", "median", "max"}


def test_a_camera_that_stands_still_has_no_percentage(truth):
    still = replace(truth, world_from_cam=np.tile(np.eye(4), (120, 1, 1)))
    evaluation = evaluate(truth, still, alignment="se3")
    assert evaluation.ate_percent == float("inf")
    assert json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))["ate_percent"] is None
    with pytest.raises(InputError, match="cannot be aligned"):
        evaluate(truth, still)


def test_the_result_of_a_run_can_be_evaluated(truth, estimate):
    trajectory = Trajectory(
        index=np.arange(120),
        timestamp_s=truth.timestamp_s,
        world_from_cam=estimate.world_from_cam,
        intrinsics=np.tile(np.eye(3), (120, 1, 1)),
        submap=np.zeros(120, np.int64),
    )
    assert evaluate(trajectory, truth).to_dict() == evaluate(estimate, truth).to_dict()


def test_too_few_frames(truth, estimate):
    def first(poses: PoseSequence, count: int) -> PoseSequence:
        return PoseSequence(
            world_from_cam=poses.world_from_cam[:count], timestamp_s=poses.timestamp_s[:count]
        )

    with pytest.raises(InputError, match="at least three"):
        evaluate(first(estimate, 2), truth)
    evaluation = evaluate(first(estimate, 2), truth, alignment="none", rpe_delta_frames=5)
    assert evaluation.rpe_translation is None
    assert evaluation.to_dict()["rpe_rotation_deg"] is None


@pytest.mark.parametrize(
    "wrong", [{"alignment": "affine"}, {"rpe_delta_frames": 0}, {"max_time_difference_s": -1.0}]
)
def test_arguments_out_of_range(truth, estimate, wrong):
    with pytest.raises(ConfigError):
        evaluate(estimate, truth, **wrong)


def test_the_truth_and_the_estimate_are_left_alone(truth, estimate):
    before = truth.world_from_cam.copy(), estimate.world_from_cam.copy()
    evaluate(estimate, truth)
    assert np.array_equal(before[0], truth.world_from_cam)
    assert np.array_equal(before[1], estimate.world_from_cam)
