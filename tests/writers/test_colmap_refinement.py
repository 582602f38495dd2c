"""Refinement of captures that are longer than a window."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest

from da3stream.scene import PoseUncertainty
from da3stream.synthetic.demo_video import demo_capture
from da3stream.writers.colmap import refinement, worker
from da3stream.writers.colmap.job import ColmapJob
from da3stream.writers.colmap.model import ModelImage
from da3stream.writers.colmap.pairs import sequence_pairs

COUNT, ALL = 36, 72
DEPTH_M = 3.0
CAPTURE = demo_capture(frames=ALL, size=(320, 180))
TRUE = CAPTURE.world_from_cam[:COUNT]


def wrong_job() -> ColmapJob:
    """A walk whose focal length is 2 % too long; every camera is some millimetres off."""
    camera, poses = CAPTURE.camera, TRUE.copy()
    poses[:, :3, 3] += 0.005 * np.random.default_rng(1).normal(size=(COUNT, 3))
    chunks = [number // 12 for number in range(COUNT)]
    each = PoseUncertainty(turn_rad=1e-2, shift_over_depth=1e-2, log_scale=0.0)
    return ColmapJob(
        cameras=[replace(camera, fx=1.02 * camera.fx, fy=1.02 * camera.fy)],
        images=[ModelImage(name=f"{i:02d}.png", world_from_cam=pose) for i, pose in enumerate(poses)],
        typical_depths=[DEPTH_M] * COUNT,
        chunks=chunks,
        uncertainties=dict.fromkeys(chunks, each),
        pairs=sequence_pairs(COUNT),
        points_in_world=np.zeros((0, 3), np.float32),
        colors=np.zeros((0, 3), np.uint8),
        camera_model="PINHOLE",
        file_format="binary",
        dense=False,
        refine=True,
        workers=2,
    )


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory):
    """Refines with a window of so many images: the model, and the report."""
    root = tmp_path_factory.mktemp("refined")
    known: dict[str, str] = {}
    (root / "images").mkdir()
    for number, image in enumerate(islice(CAPTURE.images(), COUNT)):
        cv2.imwrite(str(root / "images" / f"{number:02d}.png"), image[..., ::-1])

    def refine(window: int, spacing: int = 7) -> tuple[pycolmap.Reconstruction, dict[str, Any]]:
        folder, scratch = root / f"{window} {spacing}", root / f"{window} {spacing} scratch"
        folder.mkdir()
        scratch.mkdir()
        (folder / "images").symlink_to(root / "images")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(refinement, "WINDOW", window)
            patch.setattr("da3stream.writers.colmap.skeleton.MAX_SPACING", spacing)
            report = worker.work(folder, scratch, replace(wrong_job(), **known), lambda line: None)
        known.update(earlier=str(folder), earlier_settings=report["features"])
        return pycolmap.Reconstruction(folder / "sparse" / "0"), report["refinement"]

    return refine


def focal(model: pycolmap.Reconstruction) -> float:
    return float(model.cameras[1].mean_focal_length())


def ate_m(model: pycolmap.Reconstruction) -> float:
    """RMS distance of the cameras to the truth after the best similarity."""
    centres = np.array([model.images[i].projection_center() for i in sorted(model.images)])
    fit = pycolmap.estimate_sim3d(centres, TRUE[:, :3, 3])
    moved = np.array([fit * centre for centre in centres])
    return float(np.sqrt(((moved - TRUE[:, :3, 3]) ** 2).sum(axis=1).mean()))


@pytest.mark.slow
def test_windows_come_to_what_all_images_at_once_come_to(refined):
    whole, _ = refined(300)
    assert focal(whole) == pytest.approx(CAPTURE.camera.fx, rel=0.003)
    for window, spacing in ((24, 7), (12, 2)):
        model, report = refined(window, spacing)
        assert report["kept"], report
        assert focal(model) == pytest.approx(focal(whole), rel=0.003)
        assert ate_m(model) < 0.006, "half of what it was"
        assert model.num_reg_images() == COUNT
