"""Whole-pipeline runs of simulated captures of two lengths: peak memory, temporary disk, frames a second.

    python benchmarks/long_capture.py --frames 3600 36000 --estimator precomputed

Every length runs in a process of its own, so that its peak resident memory is its own. `precomputed` returns
arrays that exist already, so that the wall time is the engine's; `simulated` casts rays and draws errors as a
network would make.

With `--stream` every chunk is told of by an update as it comes, the map is optimised online, and the report
says how long the updates took. Laps are then recognised by simulated descriptors, so there are many loops.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from metadata import describe_environment

import da3stream
from da3stream.geometry.registration import umeyama
from da3stream.scene import Prediction
from da3stream.session import Session
from da3stream.synthetic.capture import (
    SimulatedDescriptor,
    SimulatedEstimator,
    SimulatedSource,
    SimulatedWorld,
)
from da3stream.synthetic.paths import street_laps

LAP = 1200


class PrecomputedEstimator:
    """Returns stored arrays: one lap of exact depth, seen again in every lap."""

    name = "precomputed"
    is_metric = False

    def __init__(self, world: SimulatedWorld) -> None:
        self._depth = np.stack([world.true_depth(i).depth for i in range(LAP)]).astype(np.float32)
        self._sky = np.stack([world.true_depth(i).sky for i in range(LAP)])
        self._cam_from_world = np.linalg.inv(world.world_from_cam[:LAP])[:, :3]
        self._intrinsics = world.intrinsics

    def estimate(self, images: np.ndarray, *, indices: np.ndarray, known_cameras: Any = None) -> Prediction:
        rows = indices % LAP
        depth = self._depth[rows]
        return Prediction(
            depth=depth,
            confidence=np.where(self._sky[rows], 0, 1).astype(np.float32),
            cam_from_submap=self._cam_from_world[rows],
            intrinsics=np.repeat(self._intrinsics[None], len(rows), axis=0),
            is_metric=False,
        )


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def timed_updates() -> Iterator[list[float]]:
    """CPU seconds of every update of the streams that run inside."""
    seconds: list[float] = []
    update = Session.update

    def timed(session: Session, index: int) -> da3stream.Update:
        began = time.process_time()
        told = update(session, index)
        seconds.append(time.process_time() - began)
        return told

    with mock.patch.object(Session, "update", timed):
        yield seconds


def run_once(frames: int, estimator_name: str, is_stream: bool, folder: str, answers: Any) -> None:
    lap = street_laps(LAP)
    world_from_cam = lap[np.arange(frames) % LAP] if estimator_name == "precomputed" else street_laps(frames)
    world = SimulatedWorld(world_from_cam, seed=7, size=(14, 42), hfov_deg=82)
    estimator = (
        PrecomputedEstimator(world) if estimator_name == "precomputed" else SimulatedEstimator(world, 1)
    )
    output = Path(folder) / f"run_{frames}"
    began, cpu_began = time.perf_counter(), time.process_time()
    options: dict[str, Any] = {"descriptor": SimulatedDescriptor(world)} if is_stream else {}
    with timed_updates() as updates:
        if is_stream:
            for _ in da3stream.stream(SimulatedSource(world), output, estimator=estimator, **options):
                pass
        result = da3stream.reconstruct(
            SimulatedSource(world), output, estimator=estimator, resume=is_stream, **options
        )
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    centres, truth = result.trajectory.world_from_cam[:, :3, 3], world.world_from_cam[:, :3, 3]
    aligned = umeyama(centres, truth).apply(centres)
    temporary = (
        sum(folder_bytes(output / name) for name in ("submaps", "frames"))
        + (output / "journal.jsonl").stat().st_size
    )
    answers.put(
        {
            "frames": frames,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "frames_per_s": frames / seconds,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "temporary_bytes_per_frame": temporary / frames,
            "run_bytes": folder_bytes(output),
            "stages_s": result.measured["seconds"],
            "update_cpu_seconds": sum(updates),
            "longest_update_cpu_s": max(updates, default=0.0),
            "ate_m": float(np.sqrt(((aligned - truth) ** 2).sum(1).mean())),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[3600, 36000])
    parser.add_argument("--estimator", choices=["precomputed", "simulated"], default="precomputed")
    parser.add_argument("--stream", action="store_true", help="with an update for every chunk")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in arguments.frames:
            answers = context.Queue()
            process = context.Process(
                target=run_once, args=(frames, arguments.estimator, arguments.stream, folder, answers)
            )
            process.start()
            runs.append(answers.get())
            process.join()
    summary = {"peak_rss_growth_mb": (runs[-1]["peak_rss_bytes"] - runs[0]["peak_rss_bytes"]) / 1e6}
    print(json.dumps({**describe_environment(vars(arguments)), "runs": runs, "summary": summary}, indent=2))


if __name__ == "__main__":
    main()
