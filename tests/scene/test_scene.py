"""The data types refuse what does not fit together, and say what would."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest

from da3stream import scene
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import (
    Chunk,
    ChunkSizes,
    Frame,
    FrameBlock,
    FrameGaussians,
    Gaussians,
    KnownCameras,
    LoopCandidate,
    LoopClosure,
    PlacedCameras,
    PoseGraph,
    PoseUncertainty,
    Prediction,
    Submap,
    SubmapCameras,
    SubmapEdge,
    Trajectory,
    WorldAlignment,
)

MAPS = np.ones((2, 4, 5), dtype=np.float32)
CAMERAS = np.tile(np.eye(3), (2, 1, 1))
POSES = np.tile(np.eye(4), (2, 1, 1))

CANDIDATE = LoopCandidate(later=9, earlier=2, similarity=0.5, threshold=0.4, support=3)

SAMPLES: dict[str, Any] = {
    "Gaussians": Gaussians.none(9),
    "FrameGaussians": FrameGaussians.of([], 1),
    "LoopCandidate": CANDIDATE,
    "LoopClosure": LoopClosure(candidate=CANDIDATE, chunk=4, reason=None),
    "SubmapCameras": SubmapCameras(
        chunk=Chunk(index=0, context=(0,), new=(1,)), cam_from_submap=POSES[:, :3], typical_depth=1.0
    ),
    "PlacedCameras": PlacedCameras(
        chunk=Chunk(index=0, context=(0,), new=(1,)), world_from_cam=POSES, depth_scale=np.ones(2)
    ),
    "Chunk": Chunk(index=0, context=(0,), new=(1,)),
    "ChunkSizes": ChunkSizes(size=4, overlap=2),
    "Frame": Frame(index=0, source_index=0, timestamp_s=0.0, image=np.zeros((4, 6, 3), dtype=np.uint8)),
    "KnownCameras": KnownCameras(intrinsics=CAMERAS, cam_from_world=POSES[:, :3]),
    "PoseGraph": PoseGraph(nodes=1, edges=()),
    "PoseUncertainty": PoseUncertainty(turn_rad=0.01, shift_over_depth=0.01, log_scale=0.01),
    "SubmapEdge": SubmapEdge(a=0, b=1, a_from_b=Sim3.identity(), information=np.eye(7)),
    "Prediction": Prediction(
        depth=MAPS, confidence=MAPS, cam_from_submap=POSES[:, :3], intrinsics=CAMERAS, is_metric=False
    ),
    "Submap": Submap(
        chunk=Chunk(index=0, context=(0,), new=(1,)),
        depth=MAPS,
        confidence=MAPS,
        cam_from_submap=POSES[:, :3],
        intrinsics=CAMERAS,
        image_intrinsics=CAMERAS,
        is_metric=False,
    ),
    "Trajectory": Trajectory(
        index=np.arange(2),
        timestamp_s=np.zeros(2),
        world_from_cam=POSES,
        intrinsics=CAMERAS,
        submap=np.zeros(2, int),
    ),
    "WorldAlignment": WorldAlignment(world_from_run=Sim3.identity(), up="plane", is_metric=True),
    "FrameBlock": FrameBlock(
        submap=0,
        index=np.arange(2),
        source_index=np.arange(2),
        timestamp_s=np.zeros(2),
        names=("a", "b"),
        original_size=np.ones((2, 2), dtype=np.int64),
        images=np.zeros((2, 12, 15, 3), dtype=np.uint8),
        world_from_cam=POSES,
        intrinsics=CAMERAS,
        depth=MAPS,
        confidence=MAPS,
        depth_intrinsics=CAMERAS,
    ),
}


def test_every_exported_type_is_tested_here() -> None:
    assert set(SAMPLES) == set(scene.__all__)


@pytest.mark.parametrize("name", SAMPLES)
def test_types_are_frozen_slotted_and_built_by_keyword(name: str) -> None:
    sample = SAMPLES[name]
    with pytest.raises(FrozenInstanceError):
        setattr(sample, fields(sample)[0].name, None)
    assert not hasattr(sample, "__dict__")
    with pytest.raises(TypeError, match="positional"):
        type(sample)(*(getattr(sample, field.name) for field in fields(sample)))


@pytest.mark.parametrize("name", ["Frame", "FrameBlock", "Prediction", "Submap", "Trajectory"])
def test_types_with_large_arrays_show_shapes_and_not_numbers(name: str) -> None:
    shown = repr(SAMPLES[name])
    assert shown.startswith(f"{name}(")
    assert "array(" not in shown
    assert "(2, 4, 5) float32" in shown or name in ("Frame", "Trajectory")


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        (
            "Frame",
            {"image": np.zeros((4, 6), dtype=np.uint8)},
            r"image has shape \(4, 6\), expected \('\*', '\*', 3\)",
        ),
        ("Frame", {"image": np.zeros((4, 6, 3))}, "image has dtype float64, expected uint8"),
        ("Frame", {"image": [[0]]}, "image must be a numpy array, got list"),
        ("Frame", {"index": -1}, "indices must be >= 0"),
        ("Frame", {"source_index": -1}, "indices must be >= 0"),
        ("Chunk", {"context": (), "new": ()}, "at least one frame"),
        ("Chunk", {"context": (1, 2), "new": (2, 3)}, "appears twice in chunk 0"),
        ("ChunkSizes", {"overlap": 0}, "chunks of 4 frames cannot share 0"),
        ("ChunkSizes", {"overlap": 3}, "chunks of 4 frames cannot share 3"),
        ("KnownCameras", {"intrinsics": np.eye(3)}, "intrinsics has shape"),
        ("KnownCameras", {"cam_from_world": POSES}, "cam_from_world has shape"),
        ("Prediction", {"confidence": MAPS[:, 1:]}, r"confidence has shape .* expected \(2, 4, 5\)"),
        ("Prediction", {"depth": MAPS.astype(int)}, "depth has dtype int64"),
        (
            "Prediction",
            {"cam_from_submap": POSES},
            r"cam_from_submap has shape \(2, 4, 4\), expected \(2, 3, 4\)",
        ),
        ("Prediction", {"intrinsics": CAMERAS[:1]}, r"intrinsics has shape \(1, 3, 3\)"),
        ("Prediction", {"sky": MAPS}, "sky has dtype float32, expected bool"),
        ("Prediction", {"descriptors": np.zeros((3, 8))}, "descriptors has shape"),
        ("Prediction", {"settled_intrinsics": CAMERAS}, "settled_intrinsics has shape"),
        (
            "Submap",
            {"depth": MAPS[:1], "confidence": MAPS[:1]},
            r"depth has shape \(1, 4, 5\), expected \(2,",
        ),
        ("Submap", {"cam_from_submap": POSES[:, :3].astype(np.float32)}, "cam_from_submap has dtype float32"),
        ("Submap", {"image_intrinsics": CAMERAS[:1]}, "image_intrinsics has shape"),
        ("Submap", {"sky": MAPS[:, :2] > 0}, "sky has shape"),
        ("SubmapEdge", {"information": np.eye(6)}, "information has shape"),
        ("SubmapEdge", {"a": 1}, "from an earlier to a later submap, got 1 and 1"),
        ("PoseGraph", {"edges": (SAMPLES["SubmapEdge"],)}, "edge 0 - 1 leaves a graph of 1 nodes"),
        ("Trajectory", {"timestamp_s": np.zeros(3)}, "timestamp_s has shape"),
        ("Trajectory", {"world_from_cam": POSES[:, :3]}, "world_from_cam has shape"),
        ("Trajectory", {"submap": np.zeros(2)}, "submap has dtype float64, expected integer"),
        (
            "WorldAlignment",
            {"world_from_run": Sim3(rotation=np.eye(3), translation=np.ones(3))},
            "one turn and one scale",
        ),
        ("FrameBlock", {"names": ("a",)}, "1 names for 2 frames"),
        ("FrameBlock", {"images": np.zeros((2, 12, 15), dtype=np.uint8)}, "images has shape"),
        ("FrameBlock", {"confidence": MAPS[:, :2]}, "confidence has shape"),
        ("FrameBlock", {"full_depth": np.ones((1, 8, 9), dtype=np.float32)}, "full_depth has shape"),
        (
            "FrameBlock",
            {"full_depth": np.ones((2, 8, 9), dtype=np.float32), "full_confidence": MAPS},
            r"full_confidence has shape \(2, 4, 5\), expected \(2, 8, 9\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(name: str, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(SAMPLES[name], **changes)


def test_a_submap_finds_the_rows_of_its_frames() -> None:
    submap = replace(SAMPLES["Submap"], chunk=Chunk(index=3, context=(7,), new=(2,)))
    assert submap.rows((2, 7)).tolist() == [1, 0]
    assert submap.rows(()).dtype == np.intp
    with pytest.raises(KeyError):
        submap.rows((3,))


def test_the_frames_of_a_chunk_are_context_then_new() -> None:
    assert Chunk(index=1, context=(5, 6), new=(7,)).frames == (5, 6, 7)


@pytest.mark.parametrize(
    ("context", "new", "recalled"),
    [((), (0, 1), ()), ((3, 4), (5, 6), ()), ((0, 2, 4, 5), (6,), (0, 2)), ((0, 1), (5,), (0, 1))],
)
def test_what_a_chunk_recalls_comes_before_its_window(
    context: tuple[int, ...], new: tuple[int, ...], recalled: tuple[int, ...]
) -> None:
    chunk = Chunk(index=1, context=context, new=new)
    assert chunk.recalled == recalled
    assert chunk.recalled + chunk.window == chunk.frames


def test_a_chunk_that_owns_nothing_recalls_nothing() -> None:
    chunk = Chunk(index=1, context=(0, 1, 7, 8), new=())
    assert (chunk.recalled, chunk.window) == ((), (0, 1, 7, 8))


def test_the_size_of_a_frame_is_width_then_height() -> None:
    assert SAMPLES["Frame"].size == (6, 4)


def test_lengths_count_frames() -> None:
    assert len(SAMPLES["Trajectory"]) == len(SAMPLES["FrameBlock"]) == 2


def test_a_loop_joins_a_later_frame_to_an_earlier_one() -> None:
    with pytest.raises(ValueError, match="got 2 and 9"):
        replace(CANDIDATE, later=2, earlier=9)


def test_a_loop_is_accepted_unless_something_speaks_against_it() -> None:
    accepted = SAMPLES["LoopClosure"]
    assert accepted.is_accepted
    assert not replace(accepted, chunk=None, reason="the places do not overlap").is_accepted


def test_a_submap_without_size_is_refused() -> None:
    with pytest.raises(ValueError, match="typical_depth"):
        replace(SAMPLES["SubmapCameras"], typical_depth=0.0)
