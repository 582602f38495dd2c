"""`--select motion`: what it takes, what it costs, and what that does to the trajectory.

    python benchmarks/selection.py                  # all parts, about six minutes on two cores
    python benchmarks/selection.py selection        # frames and milliseconds only

The real clips lie in the folder that DA3STREAM_SHARED names (default: ../shared beside the checkout).
Standing is made by repeating a frame under fresh noise of 3 grey levels. `selection` gives for each clip the
frames offered and kept by threshold, how many of the standing ones were kept, and CPU milliseconds a frame
(shrinking the RGB image and flow, not decoding); `cost` the same for 1080p in the decoder process.
`accuracy` reconstructs with the classical estimator, with every frame and by motion at several thresholds:
ATE as a share of the path, without the standing frames. The robot has no truth: its reference is its own run
with every frame.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import av
import cv2
import numpy as np
from metadata import describe_environment

import da3stream
from da3stream.evaluation import evaluate, load_trajectory
from da3stream.geometry.rigid3 import quaternion_wxyz, to_4x4
from da3stream.source import selection
from da3stream.source.frame_scaling import FrameScaler
from da3stream.source.motion import MotionFilter, grey_image, median_flow
from da3stream.synthetic.demo_video import demo_capture

SHARED = Path(os.environ.get("DA3STREAM_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
KITTI_CAMERA = (707.0912, 707.0912, 601.8873 + 0.5, 183.1104 + 0.5)
THRESHOLDS = (0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03)
STANDING_FRAMES, NOISE = 50, 3.0
SEED = 0

Image = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Images in order; those of `standing` repeat the one before it."""

    images: Sequence[Image]
    standing: range = range(0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", default=["cost", "selection", "accuracy"], metavar="cost|selection|accuracy"
    )
    arguments = parser.parse_args()
    parts = {"cost": measure_cost, "selection": measure_selection, "accuracy": measure_accuracy}
    report = {"benchmark": "selection", "default_threshold": selection.MOTION, "seed": SEED}
    report |= {name: dict(parts[name]()) for name in arguments.parts}
    print(json.dumps({**report, **describe_environment(vars(arguments))}, indent=2))


# Which frames are taken ---------------------------------------------------------------------------


def measure_selection() -> Iterator[tuple[str, Any]]:
    for name, make in CLIPS.items():
        yield name, select_from(make())
        yield f"{name}, standing in the middle", select_from(with_standing(make()))


def measure_cost() -> Iterator[tuple[str, float]]:
    """CPU milliseconds a frame of 1920x1080 in the decoder process, for the grey image and for the flow."""
    capture = demo_capture(frames=12, size=(1920, 1080))
    frames = [av.VideoFrame.from_ndarray(i, "rgb24").reformat(format="yuv420p") for i in capture.images()]
    scaler = FrameScaler()
    scaler.grey(frames[0])
    began = time.process_time()
    greys = [scaler.grey(frame) for frame in frames]
    yield "grey_ms", round(1e3 * (time.process_time() - began) / len(frames), 2)
    began = time.process_time()
    for before, now in itertools.pairwise(greys):
        median_flow(before, now)
    yield "flow_ms", round(1e3 * (time.process_time() - began) / (len(frames) - 1), 2)


def select_from(clip: Clip) -> dict[str, Any]:
    by_threshold = {}
    began = time.process_time()
    for threshold in THRESHOLDS:
        taken = list(
            MotionFilter[int](threshold, lambda i: grey_image(clip.images[i]))(range(len(clip.images)))
        )
        standing = sum(index in clip.standing for index in taken)
        by_threshold[str(threshold)] = {"kept": len(taken), "kept_standing": standing}
    spent_ms = 1e3 * (time.process_time() - began) / len(THRESHOLDS) / len(clip.images)
    return {
        "offered": len(clip.images),
        "standing": len(clip.standing),
        "by_threshold": by_threshold,
        "cpu_ms_per_frame": round(spent_ms, 2),
    }


def with_standing(clip: Clip, frames: int = STANDING_FRAMES) -> Clip:
    """The camera stands still in the middle, and its sensor is noisy."""
    rng = np.random.default_rng(SEED)
    middle = len(clip.images) // 2
    image = clip.images[middle - 1]
    stills = [
        np.clip(np.rint(image + rng.normal(0, NOISE, image.shape)), 0, 255).astype(np.uint8)
        for _ in range(frames)
    ]
    images = [*clip.images[:middle], *stills, *clip.images[middle:]]
    return Clip(images=images, standing=range(middle, middle + frames))


def folder_clip(folder: Path) -> Clip:
    return Clip(images=[cv2.imread(str(path))[..., ::-1] for path in sorted(folder.iterdir())])


def robot_clip(every: int) -> Clip:
    with av.open(str(SHARED / "robot_unitree.mp4")) as container:
        return Clip(images=[frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][::every])


CLIPS: dict[str, Callable[[], Clip]] = {
    "kitti (10 frames/s)": lambda: folder_clip(SHARED / "kitti_seq1" / "image_l"),
    "fox (about 2 frames/s)": lambda: folder_clip(SHARED / "fox" / "images"),
    "robot (50 frames/s)": lambda: robot_clip(1),
    "robot (10 frames/s)": lambda: robot_clip(5),
    "demo (10 frames/s)": lambda: Clip(images=list(demo_capture().images())),
}


# What that does to the trajectory -----------------------------------------------------------------


def measure_accuracy() -> Iterator[tuple[str, Any]]:
    for name, (make, thresholds) in CAPTURES.items():
        with tempfile.TemporaryDirectory() as folder:
            yield name, dict(compare(make(Path(folder)), thresholds, Path(folder)))


@dataclass(frozen=True, kw_only=True)
class Capture:
    """A clip as the pipeline reads it."""

    input: Path
    truth: Path | None
    options: dict[str, Any]


def compare(capture: Capture, thresholds: tuple[float, ...], folder: Path) -> Iterator[tuple[str, Any]]:
    """With every frame, then by motion."""
    reference = capture.truth
    for threshold in (None, *thresholds):
        run, began = folder / f"run_{threshold}", time.perf_counter()
        options = {"select": "all" if threshold is None else "motion", "chunk_size": 24, "overlap": 12}
        config = da3stream.load_config(None, {"model": "classical", **capture.options, **options})
        with mock.patch.object(selection, "MOTION", threshold):
            result = da3stream.reconstruct(capture.input, run, config=config)
        reference = reference or run / "trajectory_tum.txt"
        report: dict[str, Any] = {
            "frames": len(result.trajectory),
            "wall_s": round(time.perf_counter() - began, 1),
            "warnings": list(result.warnings),
        }
        if reference.parent != run:
            found = evaluate(load_trajectory(run), load_trajectory(reference))
            report |= {"ate_percent": found.ate_percent, "associated_frames": found.associated_frames}
        name = "every frame" if threshold is None else f"motion {threshold}"
        print(name, json.dumps(report), file=sys.stderr, flush=True)
        yield name, report


def kitti_there_and_back(folder: Path) -> Capture:
    """51 frames there, 50 back, and in the middle 50 on the spot."""
    there = folder_clip(SHARED / "kitti_seq1" / "image_l")
    order = [*range(51), *range(49, -1, -1)]
    clip = with_standing(Clip(images=[there.images[i] for i in order]))
    order[clip.standing.start : clip.standing.start] = [order[clip.standing.start - 1]] * len(clip.standing)
    (folder / "images").mkdir()
    for number, image in enumerate(clip.images):
        cv2.imwrite(str(folder / "images" / f"{number:06d}.png"), image[..., ::-1])
    poses = to_4x4(np.loadtxt(SHARED / "kitti_seq1" / "poses.txt").reshape(-1, 3, 4))[order]
    moving = [index for index in range(len(poses)) if index not in clip.standing]
    return Capture(
        input=folder / "images",
        truth=write_truth(folder / "truth.txt", np.array(moving), poses[moving]),
        options={"intrinsics": KITTI_CAMERA},
    )


def robot(folder: Path) -> Capture:
    return Capture(input=SHARED / "robot_unitree.mp4", truth=None, options={"fps": 10})


def write_truth(path: Path, times_s: np.ndarray, world_from_cam: np.ndarray) -> Path:
    xyzw = quaternion_wxyz(world_from_cam[:, :3, :3])[:, [1, 2, 3, 0]]
    np.savetxt(path, np.column_stack([times_s, world_from_cam[:, :3, 3], xyzw]), header="t x y z qx qy qz qw")
    return path


CAPTURES: dict[str, tuple[Callable[[Path], Capture], tuple[float, ...]]] = {
    "robot": (robot, (0.005, 0.01, 0.02)),
    "kitti there and back, standing in the middle": (kitti_there_and_back, (0.01, 0.02)),
}
"""What makes a capture, and the thresholds; below 0.01 they take every frame of KITTI."""


if __name__ == "__main__":
    main()
