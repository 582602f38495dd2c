from __future__ import annotations

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import da3stream
from da3stream.cli.demo import command
from da3stream.errors import RunExistsError
from da3stream.evaluation import evaluate, load_trajectory
from da3stream.geometry.rigid3 import invert
from da3stream.synthetic import demo_video


class KnowingEstimator:
    """Returns the truth of the demo's capture, in each chunk at another scale."""

    name = "knowing"
    is_metric = False

    def __init__(self, capture):
        self._capture = capture

    def estimate(self, images, *, indices, known_cameras=None):
        assert known_cameras is None
        scale = 3 + indices[0] / 10
        cam_from_world = invert(self._capture.world_from_cam[indices])[:, :3]
        cam_from_world[:, :, 3] *= scale
        depth = np.stack([self._capture.true_depth(int(index)) for index in indices]) * np.float32(scale)
        return da3stream.Prediction(
            depth=depth,
            confidence=np.ones_like(depth),
            cam_from_submap=cam_from_world,
            intrinsics=np.tile(self._capture.camera.matrix(), (len(indices), 1, 1)),
            is_metric=False,
        )


@pytest.fixture
def quick_demo(monkeypatch, small_demo):
    """The demo with a small video, and with an estimator that needs no time."""
    pretend(monkeypatch, replace(small_demo, world_from_cam=small_demo.world_from_cam[:26]))


@pytest.fixture
def shorter_demo(monkeypatch, small_demo):
    """The same with a few frames."""
    pretend(monkeypatch, replace(small_demo, world_from_cam=small_demo.world_from_cam[:6]))


def pretend(monkeypatch, capture):
    """Put a capture in place of the demo's own."""

    def reconstruct(source, output, config, resume, overwrite, as_json):
        assert config.model == "classical"
        assert config.intrinsics is None
        da3stream.reconstruct(
            source, output, config=config, overwrite=overwrite, estimator=KnowingEstimator(capture)
        )

    monkeypatch.setattr("da3stream.cli.run.run_and_report", reconstruct)
    monkeypatch.setattr(demo_video, "demo_capture", lambda: capture)


def run(*arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_leaves_the_video_its_truth_the_run_and_a_picture(quick_demo, tmp_path):
    result = run("-o", str(tmp_path))
    assert result.exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"demo.mp4", "truth_tum.txt", "run", "demo.png"}
    evaluation = evaluate(load_trajectory(tmp_path / "run"), load_trajectory(tmp_path / "truth_tum.txt"))
    assert evaluation.associated_frames == 26
    assert evaluation.ate_percent < 0.01
    assert re.search(r"ATE \(sim3\) +RMSE [\d.e-]+ ", result.output)
    depth_error = float(re.search(r"depth of 5 frames: median error ([\d.e-]+) %", result.output)[1])
    # Half precision on disk; surfaces that the small depth maps cut in half do not move the median.
    assert depth_error < 0.2
    assert cv2.imread(str(tmp_path / "demo.png")).shape[1] > 1000
    last_lines = "\n".join(result.output.splitlines()[-5:])
    assert str(tmp_path / "run" / "report.html") in last_lines
    assert f"da3stream view {tmp_path / 'run'}" in last_lines


def test_a_folder_with_something_in_it_is_refused_unless_told_otherwise(shorter_demo, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(RunExistsError, match="--overwrite"):
        run("-o", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    for _ in range(2):
        assert run("-o", str(tmp_path), "--overwrite").exit_code == 0
    assert (tmp_path / "mine.txt").read_text() == "keep me"


@pytest.mark.slow
def test_the_real_demo_meets_its_promise(finished_demo, demo):
    truth = load_trajectory(finished_demo / "truth_tum.txt")
    evaluation = evaluate(load_trajectory(finished_demo / "run"), truth)
    assert evaluation.associated_frames == len(demo)
    assert evaluation.ate_percent < 1.0
    assert evaluation.rpe_rotation_deg.rmse < 0.2
