from __future__ import annotations

import cv2
import numpy as np
import pytest

from da3stream.errors import ConfigError
from da3stream.evaluation import PoseSequence, evaluate
from da3stream.evaluation.plot import draw_trajectories, save_plot

TRUTH, ESTIMATE = (150, 150, 150), (24, 98, 188)


def circle(radius: float, tilt: np.ndarray) -> PoseSequence:
    angle = np.linspace(0, 2 * np.pi, 100)
    poses = np.tile(np.eye(4), (100, 1, 1))
    poses[:, :3, 3] = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], 1) @ tilt.T
    return PoseSequence(world_from_cam=poses, timestamp_s=angle)


def extent(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Width and height of what has this colour inside the axes."""
    rows, columns = np.nonzero((image[66:-70, 90:-30] == colour).all(-1))
    return np.array([np.ptp(columns), np.ptp(rows)])


def test_a_tilted_circle_is_drawn_round_and_to_scale():
    tilt = cv2.Rodrigues(np.array([0.7, 0.4, -0.2]))[0]
    evaluation = evaluate(circle(2.0, tilt), circle(4.0, tilt), alignment="none")
    image = draw_trajectories(evaluation, size=(800, 700))
    assert image.shape == (700, 800, 3)
    true, estimated = extent(image, TRUTH), extent(image, ESTIMATE)
    assert abs(true[0] - true[1]) <= 4
    assert estimated == pytest.approx(true / 2, abs=8)
    assert true.max() > 400


@pytest.mark.parametrize("length", [0.0, 1e-6, 1e7])
def test_degenerate_and_extreme_paths_are_drawn(length):
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 0, 3] = np.linspace(0, length, 5)
    path = PoseSequence(world_from_cam=poses, timestamp_s=np.arange(5.0))
    image = draw_trajectories(evaluate(path, path, alignment="none"))
    assert (image == ESTIMATE).all(-1).any()


def test_writes_a_picture_or_says_why_not(tmp_path, truth, estimate):
    evaluation = evaluate(estimate, truth)
    save_plot(tmp_path / "plot.png", evaluation)
    written = cv2.imread(str(tmp_path / "plot.png"))[..., ::-1]
    assert np.array_equal(written, draw_trajectories(evaluation))
    with pytest.raises(ConfigError, match=r"plot\.docx"):
        save_plot(tmp_path / "plot.docx", evaluation)
    with pytest.raises(ConfigError, match="missing"):
        save_plot(tmp_path / "missing" / "plot.png", evaluation)
