"""How much of a run hides behind estimation: an estimator that sleeps, on real images.

    python benchmarks/overlap.py --frames 600 --sleep 0.04

The frames are KITTI's, there and back, decoded from a video; `vlad` describes them; coarse chunks and loops
are on. The estimator sleeps `--sleep` seconds for every frame of a chunk, as if a GPU were at work, and
returns arrays that exist already (they do not fit the images, so that loops are verified and refused). The
same run is made once more without looking ahead. `excess` is the wall time from the first frame to the last
chunk, over the time slept plus one chunk: 1.1 is the limit; outputs, which need the finished map, are counted
apart.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from metadata import describe_environment
from real_clips import KITTI

import da3stream
from da3stream.scene import Prediction
from da3stream.session import ChunksAhead
from da3stream.synthetic.capture import SimulatedWorld
from da3stream.synthetic.paths import street_laps
from da3stream.synthetic.video import encode_video

SIZE = (154, 504)
KNOWN = 60
"""So many depth maps are drawn; they repeat."""


class SleepingEstimator:
    """Sleeps, then returns depth that was drawn before."""

    name = "sleeping"
    is_metric = False
    settles_intrinsics = False

    def __init__(self, frames: int, seconds_per_frame: float) -> None:
        world = SimulatedWorld(street_laps(frames), seed=7, size=SIZE, hfov_deg=82)
        self._depth = np.stack([world.true_depth(i).depth for i in range(KNOWN)]).astype(np.float32)
        self._cam_from_world = np.linalg.inv(world.world_from_cam)[:, :3]
        self._intrinsics, self._seconds_per_frame = world.intrinsics, seconds_per_frame
        self.slept_s: list[float] = []

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        began = time.perf_counter()
        depth = self._depth[indices % KNOWN]
        prediction = Prediction(
            depth=depth,
            confidence=(depth > 0).astype(np.float32),
            cam_from_submap=self._cam_from_world[indices],
            intrinsics=np.repeat(self._intrinsics[None], len(indices), axis=0),
            is_metric=False,
        )
        time.sleep(max(0.0, self._seconds_per_frame * len(indices) - (time.perf_counter() - began)))
        self.slept_s.append(time.perf_counter() - began)
        return prediction


def kitti_video(path: Path, frames: int) -> None:
    files = sorted((KITTI / "image_l").iterdir())
    lap = [*files, *files[-2:0:-1]]
    images = [cv2.imread(str(file))[:, :, ::-1] for file in lap]
    encode_video(path, (images[i % len(images)] for i in range(frames)), fps=10)


def measure(video: Path, output: Path, frames: int, sleep: float) -> dict[str, Any]:
    estimator = SleepingEstimator(frames, sleep)
    began = time.perf_counter()
    options = {"place": "vlad", "select": "all"}
    updates = da3stream.stream(
        video, output, config=da3stream.load_config(None, options), estimator=estimator
    )
    told = 0
    for update in updates:
        told += len(update.frames)
        if told == frames:
            chunks_s = time.perf_counter() - began
    whole_s = time.perf_counter() - began
    slept_s, chunk_s = sum(estimator.slept_s), max(estimator.slept_s)
    manifest = json.loads((output / "run.json").read_text())
    return {
        "estimates": len(estimator.slept_s),
        "slept_s": slept_s,
        "until_the_last_chunk_s": chunks_s,
        "until_the_outputs_s": whole_s,
        "excess": chunks_s / (slept_s + chunk_s),
        "excess_with_outputs": whole_s / (slept_s + chunk_s),
        "loops_tried": manifest["loops"] + manifest["loops_rejected"],
        "coarse_chunks": manifest["coarse_chunks"],
        "stages_s": manifest["measured"]["seconds"],
    }


def without_looking_ahead(*arguments: Any, **options: Any) -> ChunksAhead:
    return ChunksAhead(*arguments, **{**options, "ahead": 0})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--sleep", type=float, default=0.04, help="seconds a frame")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "kitti.mp4"
        kitti_video(video, arguments.frames)
        ahead = measure(video, Path(folder) / "ahead", arguments.frames, arguments.sleep)
        with mock.patch("da3stream.session.ChunksAhead", without_looking_ahead):
            serial = measure(video, Path(folder) / "serial", arguments.frames, arguments.sleep)
    summary = {
        "excess": ahead["excess"],
        "wall_over_serial": ahead["until_the_last_chunk_s"] / serial["until_the_last_chunk_s"],
    }
    report = {"ahead": ahead, "serial": serial, "summary": summary}
    print(json.dumps({**describe_environment(vars(arguments)), **report}, indent=2))


if __name__ == "__main__":
    main()
