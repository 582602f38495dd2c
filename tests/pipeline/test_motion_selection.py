"""Runs whose frames are selected by motion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import da3stream
from da3stream import Prediction, load_config
from da3stream.errors import RunMismatchError
from tests.source.clips import encode_video

PICTURES = [*range(0, 40, 2), *[40] * 15, *range(42, 80, 2)]
OPTIONS = {"select": "motion", "resolution": 84, "colmap_points": "dense", "chunk_size": 12, "overlap": 6}
OPTIONS |= {"export": "poses,tum", "place": "none", "coarse": 0}


class FlatWorldEstimator:
    """A camera that moves along a wall; can be told to fail at a chunk."""

    name, is_metric = "flat world", False

    def __init__(self, fail_at: int | None = None) -> None:
        self._fail_at = fail_at
        self.calls = 0

    def estimate(
        self, images: np.ndarray, *, indices: np.ndarray, known_cameras: object = None
    ) -> Prediction:
        if self.calls == self._fail_at:
            raise KeyboardInterrupt
        self.calls += 1
        frames, height, width = images.shape[:3]
        cam_from_submap = np.tile(np.eye(4)[:3], (frames, 1, 1))
        cam_from_submap[:, 0, 3] = -0.1 * indices
        relief = np.linspace(1, 2, height * width, dtype=np.float32).reshape(height, width)
        intrinsics = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], dtype=float)
        return Prediction(
            depth=np.tile(relief, (frames, 1, 1)),
            confidence=np.ones((frames, height, width), np.float32),
            cam_from_submap=cam_from_submap,
            intrinsics=np.tile(intrinsics, (frames, 1, 1)),
            is_metric=False,
        )


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode_video(tmp_path_factory.mktemp("video") / "standing.mp4", pictures=PICTURES)


def test_run_json_says_what_was_left_out(video: Path, tmp_path: Path) -> None:
    result = da3stream.reconstruct(
        video, tmp_path / "run", config=load_config(None, OPTIONS), estimator=FlatWorldEstimator()
    )
    assert len(result.trajectory) == 40
    assert "selected 40 of 54 frames by motion" in result.warnings[0]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["warnings"] == list(result.warnings)


def test_resuming_selects_the_same_frames(video: Path, tmp_path: Path) -> None:
    whole, stopped, config = tmp_path / "whole", tmp_path / "stopped", load_config(None, OPTIONS)
    da3stream.reconstruct(video, whole, config=config, estimator=FlatWorldEstimator())
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(video, stopped, config=config, estimator=FlatWorldEstimator(fail_at=3))
    with pytest.raises(RunMismatchError, match=r"select \(was 'motion', now 'all'\).*frames are selected"):
        da3stream.reconstruct(
            video,
            stopped,
            config=load_config(None, {**OPTIONS, "select": "all"}),
            estimator=FlatWorldEstimator(),
            resume=True,
        )
    rest = FlatWorldEstimator()
    da3stream.reconstruct(video, stopped, config=config, estimator=rest, resume=True)
    assert rest.calls > 0
    for name in ("camera_poses.txt", "trajectory_tum.txt"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    warnings = [json.loads((run / "run.json").read_text())["warnings"] for run in (whole, stopped)]
    assert warnings[0] == warnings[1]


def test_resuming_refuses_another_threshold(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(video, tmp_path / "run", config=config, estimator=FlatWorldEstimator(fail_at=1))
    monkeypatch.setattr("da3stream.source.selection.MOTION", 0.03)
    with pytest.raises(RunMismatchError, match="which of its frames are selected"):
        da3stream.reconstruct(
            video, tmp_path / "run", config=config, estimator=FlatWorldEstimator(), resume=True
        )
