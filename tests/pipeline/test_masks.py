"""Masks: what is black in them influences nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import da3stream
from da3stream import Frame, Prediction, load_config
from da3stream.errors import InputError, InputNotFoundError, RunMismatchError, UnreadableImageError
from da3stream.masks import MaskFolder
from da3stream.store import open_existing
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld

from .doubles import CountingEstimator

FRAMES = 30
OPTIONS = {
    "colmap_points": "dense",
    "chunk_size": 12,
    "overlap": 6,
    "loop": False,
    "coarse": 0,
    "keep": "full",
}


def write(folder: Path, name: str, ignored: tuple[slice, slice], size: tuple[int, int] = (42, 126)) -> None:
    folder.mkdir(exist_ok=True)
    mask = np.full(size, 255, np.uint8)
    mask[ignored] = 0
    assert cv2.imwrite(str(folder / name), mask)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """The left half of all frames but the last ten."""
    for index in range(FRAMES - 10):
        write(tmp_path / "masks", f"{index}.png", np.s_[:, :63])
    return tmp_path / "masks"


class LiarOnTheLeft(CountingEstimator):
    """Depth of the left half is nonsense that differs from chunk to chunk."""

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        exact = super().estimate(images, indices=indices, known_cameras=known_cameras)
        exact.depth[:, :, :21] *= np.float32(0.2 + 3 * np.random.default_rng(int(indices[0])).random())
        return exact


def test_what_is_masked_is_worth_nothing_in_any_output(
    tmp_path: Path, world: SimulatedWorld, masks: Path
) -> None:
    config = load_config(None, {**OPTIONS, "masks": str(masks)})
    source = SimulatedSource(world, frames=FRAMES)
    result = da3stream.reconstruct(
        source, tmp_path / "run", config=config, estimator=CountingEstimator(world)
    )
    for index in (0, 10, FRAMES - 10, FRAMES - 1):
        confidence = np.load(tmp_path / "run" / "results_output" / f"frame_{index}.npz")["conf"]
        left, right = confidence[:, :63], confidence[:, 66:]
        is_masked = index < FRAMES - 10
        assert (left.max() == 0) == is_masked
        assert right.max() > 0
    run = open_existing(tmp_path / "run")
    try:
        submap = run.submap(1)
        rows = [row for row, frame in enumerate(submap.chunk.frames) if frame < FRAMES - 10]
        assert rows
        assert submap.confidence[rows, :, : submap.confidence.shape[2] // 2].max() == 0
    finally:
        run.close()
    assert f"10 of {FRAMES} frames have no mask: 000020.jpg, ..." in result.warnings


def test_what_is_masked_does_not_move_the_map(tmp_path: Path, world: SimulatedWorld) -> None:
    for index in range(FRAMES):
        write(tmp_path / "masks", f"{index:06d}.jpg.png", np.s_[:, :66])
    config = load_config(None, {**OPTIONS, "masks": str(tmp_path / "masks")})
    source = SimulatedSource(world, frames=FRAMES)
    honest = da3stream.reconstruct(
        source, tmp_path / "honest", config=config, estimator=CountingEstimator(world)
    )
    lied = da3stream.reconstruct(source, tmp_path / "lied", config=config, estimator=LiarOnTheLeft(world))
    np.testing.assert_allclose(lied.trajectory.world_from_cam, honest.trajectory.world_from_cam, atol=2e-3)


def test_other_masks_are_refused_on_resume(tmp_path: Path, world: SimulatedWorld, masks: Path) -> None:
    config = load_config(None, {**OPTIONS, "masks": str(masks)})
    source = SimulatedSource(world, frames=FRAMES)
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            source, tmp_path / "run", config=config, estimator=CountingEstimator(world, fail_at=2)
        )
    write(masks, "3.png", np.s_[:, :40])
    with pytest.raises(RunMismatchError, match="the content of the masks"):
        da3stream.reconstruct(
            source, tmp_path / "run", config=config, estimator=CountingEstimator(world), resume=True
        )


def test_masks_of_other_things_are_an_error(tmp_path: Path, world: SimulatedWorld) -> None:
    write(tmp_path / "masks", "person.png", np.s_[:5, :5])
    config = load_config(None, {**OPTIONS, "masks": str(tmp_path / "masks")})
    source = SimulatedSource(world, frames=FRAMES)
    with pytest.raises(InputError, match=r"no mask in .* is named like a frame; got masks like person\.png"):
        da3stream.reconstruct(source, tmp_path / "run", config=config, estimator=CountingEstimator(world))


def test_folders_without_masks_and_double_ones_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match="no folder of masks"):
        MaskFolder(tmp_path / "none")
    with pytest.raises(InputNotFoundError, match="holds no image"):
        MaskFolder(tmp_path)
    write(tmp_path / "masks", "7.png", np.s_[:5, :5])
    write(tmp_path / "masks", "007.jpg.png", np.s_[:5, :5])
    with pytest.raises(InputError, match="two masks"):
        MaskFolder(tmp_path / "masks")


@pytest.mark.parametrize(("height", "width"), [(42, 126), (420, 1260), (11, 32)])
def test_any_size_masks_the_same_pixels(tmp_path: Path, height: int, width: int) -> None:
    write(tmp_path / "m", "5.png", np.s_[: height // 2, width // 3 :], (height, width))
    masked = MaskFolder(tmp_path / "m").apply(prediction(1), [frame(5)])
    ignored = masked.confidence[0] == 0
    assert ignored[:6, 16:].all()
    assert not ignored[8:].any()
    assert not ignored[:, :12].any()
    assert prediction(1).confidence.min() == 1


def test_masks_that_do_not_fit_or_cannot_be_read_are_named(tmp_path: Path) -> None:
    write(tmp_path / "m", "5.png", np.s_[:3, :3], (100, 100))
    (tmp_path / "m" / "6.png").write_text("no image")
    folder = MaskFolder(tmp_path / "m")
    with pytest.raises(InputError, match=r"5\.png has another aspect ratio than its frame; got 100x100"):
        folder.apply(prediction(1), [frame(5)])
    with pytest.raises(UnreadableImageError, match=r"cannot read the mask .*6\.png"):
        folder.apply(prediction(1), [frame(6)])


def frame(source_index: int) -> Frame:
    return Frame(index=0, source_index=source_index, timestamp_s=0.0, image=np.zeros((42, 126, 3), np.uint8))


def prediction(frames: int) -> Prediction:
    return Prediction(
        depth=np.ones((frames, 14, 42), np.float32),
        confidence=np.ones((frames, 14, 42), np.float32),
        cam_from_submap=np.tile(np.eye(3, 4), (frames, 1, 1)),
        intrinsics=np.tile(np.eye(3), (frames, 1, 1)),
        is_metric=False,
    )
