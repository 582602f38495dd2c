"""Whole-pipeline runs of simulated captures of two lengths: peak memory, temporary disk, frames a second.

    python benchmarks/long_capture.py --frames 3600 36000 --estimator precomputed

Every length runs in a process of its own, so that its peak resident memory is its own. `precomputed` returns
arrays that exist already, so that the wall time is the engine's; `simulated` casts rays and draws errors as a
network would make.

`tenths` has, for every tenth of the fine chunks, wall seconds, memory and disk when it ended; the finishing
pass comes after the last one. `growth` sums up how they grow: seconds of the last tenth over those of the
first, slopes of linear fits. A lap has 1,200 frames and the first one has no loops, so that tenths can be
compared when they hold several laps: 36,000 frames or more. An hour at 30 frames/s is

    python benchmarks/long_capture.py --frames 108000 --descriptor simulated

With `--stream` every chunk is told of by an update as it comes, the map is optimised online, and the report
says how long the updates took. `--descriptor simulated` recognises laps by simulated descriptors as long as
those of `vlad`, so there are many loops, and describing takes no time.
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
from da3stream.chunking import count_chunks
from da3stream.geometry.registration import umeyama
from da3stream.progress import Progress
from da3stream.scene import ChunkSizes, Prediction
from da3stream.session import Session
from da3stream.synthetic.capture import (
    SimulatedDescriptor,
    SimulatedEstimator,
    SimulatedSource,
    SimulatedWorld,
)
from da3stream.synthetic.paths import street_laps

LAP = 1200
DESCRIPTOR_DIM = 8192
PARTS = 10
FRAMES_PER_CHUNK = 30
"""New ones, by default."""


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


def resident_bytes() -> int:
    """VmRSS of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Watch:
    """Takes the progress of a run, and notes time, memory and disk."""

    def __init__(self, output: Path, frames: int) -> None:
        self._output, self._chunks = (
            output,
            count_chunks(frames, ChunkSizes(size=2 * FRAMES_PER_CHUNK, overlap=FRAMES_PER_CHUNK)),
        )
        self._began = time.perf_counter()
        self._s_before, self._cpu_s_before = 0.0, time.process_time()
        self._s: list[float] = []
        self._cpu_s: list[float] = []
        self._rss: list[int] = []
        self.tenths: list[dict[str, Any]] = []
        self.most_disk_bytes = 0

    def __call__(self, progress: Progress) -> None:
        if progress.message is not None or progress.chunk is None:
            return
        done = progress.chunk * PARTS // self._chunks
        is_boundary = done > (progress.chunk - 1) * PARTS // self._chunks
        if is_boundary:
            self.most_disk_bytes = max(self.most_disk_bytes, folder_bytes(self._output))
        if progress.stage == "estimation":
            self._s.append(time.perf_counter() - self._began)
            self._cpu_s.append(time.process_time())
            self._rss.append(resident_bytes())
            if is_boundary:
                self._note(progress)

    def _note(self, progress: Progress) -> None:
        self.tenths.append(
            {
                "chunks": progress.chunk,
                "frames": progress.frames,
                "seconds": self._s[-1] - self._s_before,
                "cpu_seconds": self._cpu_s[-1] - self._cpu_s_before,
                "rss_bytes": self._rss[-1],
                "disk_bytes": folder_bytes(self._output),
                "scratch_bytes": folder_bytes(self._output / "scratch"),
            }
        )
        self._s_before, self._cpu_s_before = self._s[-1], self._cpu_s[-1]

    def growth(self) -> dict[str, float]:
        """Of time and memory with the length, from all fine chunks; the first ones warm up."""
        number = np.arange(len(self._s))
        settled = slice(len(self._s) // PARTS, None)
        seconds, cpu_seconds = np.diff(self._s, prepend=0.0), np.diff(self._cpu_s, prepend=0.0)
        per_chunk_s = np.polyfit(number[settled], seconds[settled], 1)
        per_chunk_cpu_s = np.polyfit(number[settled], cpu_seconds[settled], 1)
        rss = np.array(self._rss)[settled]
        return {
            "last_tenth_over_first": self.tenths[-1]["seconds"] / self.tenths[0]["seconds"],
            "last_tenth_over_first_cpu": self.tenths[-1]["cpu_seconds"] / self.tenths[0]["cpu_seconds"],
            "chunk_seconds_at_first": float(per_chunk_s[1]),
            "chunk_seconds_at_last": float(np.polyval(per_chunk_s, number[-1])),
            "chunk_cpu_seconds_at_first": float(per_chunk_cpu_s[1]),
            "chunk_cpu_seconds_at_last": float(np.polyval(per_chunk_cpu_s, number[-1])),
            "rss_bytes_per_frame": float(np.polyfit(number[settled], rss, 1)[0]) / FRAMES_PER_CHUNK,
        }


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


def run_once(
    frames: int,
    estimator_name: str,
    is_stream: bool,
    descriptor: str,
    budget: float,
    folder: str,
    answers: Any,
) -> None:
    lap = street_laps(LAP)
    world_from_cam = lap[np.arange(frames) % LAP] if estimator_name == "precomputed" else street_laps(frames)
    world = SimulatedWorld(world_from_cam, seed=7, size=(14, 42), hfov_deg=82)
    estimator = (
        PrecomputedEstimator(world) if estimator_name == "precomputed" else SimulatedEstimator(world, 1)
    )
    output = Path(folder) / f"run_{frames}"
    began, cpu_began = time.perf_counter(), time.process_time()
    watch = Watch(output, frames)
    options: dict[str, Any] = {
        "progress": watch,
        "config": da3stream.load_config(None, {"loop_budget": budget}),
    }
    if descriptor == "simulated":
        options["descriptor"] = SimulatedDescriptor(world, dim=DESCRIPTOR_DIM)
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
        sum(folder_bytes(output / name) for name in ("submaps", "frames", "descriptors"))
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
            "most_disk_bytes": watch.most_disk_bytes,
            "growth": watch.growth(),
            "tenths": watch.tenths,
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
    parser.add_argument("--loop-budget", type=float, default=40.0, help="verifications for 100 chunks")
    parser.add_argument("--descriptor", choices=["vlad", "simulated"], default="vlad")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in arguments.frames:
            answers = context.Queue()
            process = context.Process(
                target=run_once,
                args=(
                    frames,
                    arguments.estimator,
                    arguments.stream,
                    arguments.descriptor,
                    arguments.loop_budget,
                    folder,
                    answers,
                ),
            )
            process.start()
            runs.append(answers.get())
            process.join()
    summary = {"peak_rss_growth_mb": (runs[-1]["peak_rss_bytes"] - runs[0]["peak_rss_bytes"]) / 1e6}
    print(json.dumps({**describe_environment(vars(arguments)), "runs": runs, "summary": summary}, indent=2))


if __name__ == "__main__":
    main()
