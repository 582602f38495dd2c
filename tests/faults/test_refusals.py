"""A run is resumed with the options and the input that it was begun with, or refuses and says what differs;
and what is kept of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import da3stream
from da3stream import Config, Frame, load_config
from da3stream.errors import RunMismatchError
from da3stream.store.opening import FREE_OPTIONS
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedSource, SimulatedWorld
from tests.pipeline.doubles import CountingEstimator

from .capture import CONFIG, outputs_of, reconstruct, through
from .doubles import DyingFileSystem, Killed, WatchedFileSystem, state_of

OTHERS: dict[str, Any] = {
    "start": 1.0,
    "end": 9.0,
    "fps": 5.0,
    "every": 2,
    "max_frames": 20,
    "select": "motion",
    "resolution": 518,
    "chunk_size": 10,
    "overlap": 4,
    "coarse": 0,
    "model": "classical",
    "weights": "seeded:1",
    "device": "cpu",
    "pose_head": "ray",
    "reference_view": "middle",
    "metric": "da3metric-large",
    "vram": "7GB",
    "attention": "xformers",
    "reuse_features": True,
    "intrinsics": (500.0, 500.0, 63.0, 21.0),
    "loop": False,
    "place": "none",
    "loop_budget": 10.0,
    "memory_keyframes": 2,
    "scale_prior": 0.1,
    "export": ("poses",),
    "keep": "full",
    "disk": "40GB",
    "executor": "ray",
    "colmap_images": 10,
    "max_points": 100,
    "confidence_percentile": 10.0,
    "voxel_size": 0.5,
    "edge_angle": 1.0,
    "outlier_sigma": 3.0,
    "poses": "poses.txt",
    "poses_as": "prior",
    "pose_prior_sigma": 1.0,
    "pose_offset": 1.0,
    "pose_unit": "metre",
    "masks": "masks",
    "distortion": "radtan:0.1,0.0,0.0,0.0",
    "colmap_points": "tracks",
    "colmap_format": "text",
    "camera_model": "OPENCV",
    "per_frame_cameras": True,
    "refine": "ba",
    "max_gaussians": 100,
    "gaussian_degree": 2,
    "mesh_voxel": 0.1,
}
"""A value of every option that is not the one of the run."""
NOT_ALONE = ("poses", "poses_as", "pose_prior_sigma", "masks", "distortion", "refine")
"""They need files, intrinsics or tracks; see test_known_poses.py, test_masks.py and test_known_camera.py."""


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld) -> Path:
    """A run that was killed in its first chunks."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    with pytest.raises(Killed):
        reconstruct(world, folder, DyingFileSystem(150))
    shutil.rmtree(folder / "scratch")
    return folder


def test_every_option_has_another_value() -> None:
    assert set(OTHERS) == set(Config.model_fields)
    own = load_config(None, CONFIG).model_dump()
    assert [name for name, value in OTHERS.items() if own[name] == value] == []


@pytest.mark.parametrize("name", [name for name in OTHERS if name not in (*FREE_OPTIONS, *NOT_ALONE)])
def test_another_option_is_refused_and_named(begun: Path, world: SimulatedWorld, name: str) -> None:
    before = state_of(begun)
    with pytest.raises(
        RunMismatchError, match=rf"other settings: {name} \(was .*, now .*--overwrite"
    ) as caught:
        reconstruct(world, begun, WatchedFileSystem(), **{name: OTHERS[name]})
    assert str(caught.value).count("(was") == 1, "nothing else is complained of"
    assert state_of(begun) == before


class Shifted(SimulatedSource):
    """The same frames of what calls itself another video, or other pixels of what calls itself the same."""

    def __init__(self, world: SimulatedWorld, *, identity: str | None, shade: int) -> None:
        super().__init__(world)
        self._identity, self._shade = identity, shade

    def identity(self) -> str:
        return self._identity or super().identity()

    def __iter__(self) -> Any:
        for frame in super().__iter__():
            yield Frame(
                index=frame.index,
                source_index=frame.source_index,
                timestamp_s=frame.timestamp_s,
                image=np.clip(frame.image.astype(int) + self._shade, 0, 255).astype(np.uint8),
                name=frame.name,
                original_size=frame.original_size,
            )


@pytest.mark.parametrize(
    ("identity", "shade", "complaint"),
    [
        ("another", 0, "the input or which of its frames"),
        (None, 3, "decodes to other frames than those of chunk 0"),
    ],
)
def test_another_input_is_refused(
    begun: Path, world: SimulatedWorld, identity: str | None, shade: int, complaint: str
) -> None:
    """By what it says it is, and by its pixels."""
    with through(WatchedFileSystem()), pytest.raises(RunMismatchError, match=rf"{complaint}.*--overwrite"):
        da3stream.reconstruct(
            Shifted(world, identity=identity, shade=shade),
            begun,
            config=load_config(None, CONFIG),
            estimator=CountingEstimator(world, level=1.0),
            descriptor=SimulatedDescriptor(world),
            resume=True,
        )


# What stays -----------------------------------------------------------------------------------------------

OUTPUTS = {
    "camera_poses.txt", "camera_poses.ply", "intrinsic.txt", "trajectory_tum.txt", "trajectory_kitti.txt",
    "cameras.json", "loop_closures.txt", "loop_closures.json", "trajectory.png", "pcd", "colmap",
}  # fmt: skip
ALWAYS = {"run.json", "journal.jsonl", "lock", "trajectory.safetensors", "report.html"}
REDUCED = {"submaps", "frames", "descriptors"}


@pytest.mark.parametrize(
    ("keep", "more"),
    [("none", set()), ("reduced", REDUCED), ("full", REDUCED | {"full_depth", "results_output"})],
)
def test_what_stays_in_the_run_directory(
    tmp_path: Path, world: SimulatedWorld, keep: str, more: set[str]
) -> None:
    run = tmp_path / "run"
    reconstruct(world, run, WatchedFileSystem(), keep=keep)
    assert {path.name for path in run.iterdir()} == OUTPUTS | ALWAYS | more
    fine, chunks = 9, 14
    if keep != "none":
        assert len(list((run / "submaps").iterdir())) == chunks
        assert len(list((run / "frames").iterdir())) == len(list((run / "descriptors").iterdir())) == fine
    if keep == "full":
        assert len(list((run / "full_depth").iterdir())) == fine
        assert len(list((run / "results_output").iterdir())) == 60
    before = outputs_of(run)
    reconstruct(world, run, WatchedFileSystem(), keep=keep)
    assert outputs_of(run) == before, "resuming what is finished changes nothing"
