"""Accuracy of merging on simulated captures with known truth, whole runs, against the published recipe.

    python benchmarks/merging.py                        # the captures of the shared folder, seeds 1 to 3
    python benchmarks/merging.py --seeds 1 2 3 4 5 6 --own      # more seeds, and captures of our own

`ate_m` is the RMSE of the camera centres after a similarity alignment. `published_m` is what the merging of
DA3-Streaming reaches on exactly these fine chunks, from the README of the shared folder; captures and seeds
that are not listed there are compared with a plain chain of the fine chunks, rigid submaps and nothing else,
which is what the recipe does without loops (on the listed ones the chain has 0.99 of its error).
`inferences` is the number of frames estimated over that of the fine chunks of a run without memory.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from metadata import describe_environment
from numpy.typing import NDArray

import da3stream
from da3stream.chunking import count_chunks
from da3stream.evaluation import load_trajectory
from da3stream.geometry.registration import umeyama
from da3stream.placed_map import PlacedMap
from da3stream.scene import ChunkSizes, KnownCameras, Prediction
from da3stream.store import open_existing
from da3stream.synthetic.capture import (
    SimulatedDescriptor,
    SimulatedEstimator,
    SimulatedSource,
    SimulatedWorld,
)
from da3stream.synthetic.paths import street_laps

SHARED = Path(os.environ.get("DA3STREAM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
PUBLISHED_M = {
    ("city", 1): (3.337, 0.832),
    ("city", 2): (7.667, 0.800),
    ("city", 3): (5.094, 1.714),
    ("chess", 1): (0.0542, 0.0602),
    ("chess", 2): (0.0456, 0.0440),
    ("chess", 3): (0.0998, 0.0879),
}
"""(capture, seed) -> ATE without and with loops."""
VARIANTS: dict[str, dict[str, Any]] = {
    "fine, no loops": {"coarse": 0, "loop": False},
    "coarse, no loops": {"loop": False},
    "fine, loops": {"coarse": 0},
    "coarse, loops": {},
    "coarse, many loops": {"loop_budget": 100},
    **{
        f"{name}, memory {most}": {**options, "memory_keyframes": most}
        for most in (2, 4, 8)
        for name, options in {
            "fine, no loops": {"coarse": 0, "loop": False},
            "coarse, no loops": {"loop": False},
            "fine, loops": {"coarse": 0},
            "coarse, loops": {},
        }.items()
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Capture:
    """A world and how far its places reach."""

    world: SimulatedWorld
    scale_m: float


class CountingEstimator(SimulatedEstimator):
    """Counts the frames that it is asked for."""

    frames = 0

    def estimate(
        self, images: NDArray[np.uint8], *, indices: NDArray[Any], known_cameras: KnownCameras | None = None
    ) -> Prediction:
        self.frames += len(indices)
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


def from_file(name: str, size: tuple[int, int], hfov_deg: float, indoor: bool, scale_m: float) -> Capture:
    poses = load_trajectory(SHARED / "merge" / f"{name}.txt").world_from_cam
    return Capture(
        world=SimulatedWorld(poses, 7, indoor=indoor, size=size, hfov_deg=hfov_deg), scale_m=scale_m
    )


CAPTURES: dict[str, Callable[[], Capture]] = {
    "city": lambda: from_file("city_loop", (14, 44), 82.0, False, 8.0),
    "chess": lambda: from_file("chess", (18, 24), 60.0, True, 1.0),
}
OWN: dict[str, Callable[[], Capture]] = {
    "street, 900 frames": lambda: Capture(
        world=SimulatedWorld(street_laps(900, seed=1, lap_frames=450), 11, size=(14, 44), hfov_deg=82),
        scale_m=8.0,
    ),
    "street, 2400 frames": lambda: Capture(
        world=SimulatedWorld(street_laps(2400, seed=2), 12, size=(14, 44), hfov_deg=82), scale_m=8.0
    ),
    "city, other houses": lambda: Capture(
        world=SimulatedWorld(
            load_trajectory(SHARED / "merge" / "city_loop.txt").world_from_cam[::-1].copy(),
            23,
            size=(14, 44),
            hfov_deg=82,
        ),
        scale_m=8.0,
    ),
}


def ate_m(trajectory: da3stream.Trajectory, world: SimulatedWorld) -> float:
    centres, truth = trajectory.world_from_cam[:, :3, 3], world.world_from_cam[:, :3, 3]
    return float(np.sqrt(((umeyama(centres, truth).apply(centres) - truth) ** 2).sum(1).mean()))


def chain_ate_m(folder: Path, world: SimulatedWorld) -> float:
    """ATE of the fine chunks of a run, joined one to the next."""
    stored = open_existing(folder)
    placed = PlacedMap.of(stored, None)
    stored.close()
    truth = world.world_from_cam[:, :3, 3]
    centres = placed.chain_centres()
    return float(np.sqrt(((umeyama(centres, truth).apply(centres) - truth) ** 2).sum(1).mean()))


def run(capture: Capture, seed: int, options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One run of the whole pipeline, and what it reached."""
    world = capture.world
    estimator = CountingEstimator(world, seed)
    result = da3stream.reconstruct(
        SimulatedSource(world),
        folder,
        config=da3stream.load_config(None, {"export": "poses", **options}),
        estimator=estimator,
        descriptor=SimulatedDescriptor(world, scale_m=capture.scale_m),
    )
    stored = open_existing(folder)
    recalled = sum(len(record.chunk.recalled) for record in stored.fine_chunks)
    remembered = sum(edge.kind == "memory" for edges in stored.edges.values() for edge in edges.values())
    sizes = stored.plans[0].sizes
    loops = list(stored.loops.values())
    stored.close()
    return {
        "ate_m": ate_m(result.trajectory, world),
        "chain_m": chain_ate_m(folder, world),
        "inferences": estimator.frames / plain_frames(len(world), sizes),
        "keyframes_recalled": recalled,
        "memory_edges": remembered,
        "loops_accepted": sum(loop.is_accepted for loop in loops),
        "loops_rejected": [loop.reason for loop in loops if not loop.is_accepted],
        "seconds": result.measured["seconds_total"],
    }


def plain_frames(frames: int, sizes: ChunkSizes) -> int:
    """Frames of all fine chunks together, if each shares `overlap` with the one before and recalls none."""
    return frames + sizes.overlap * (count_chunks(frames, sizes) - 1)


def with_ratio(name: str, seed: int, has_loops: bool, measured: dict[str, Any]) -> dict[str, Any]:
    published = PUBLISHED_M.get((name, seed))
    reference = measured["chain_m"] if published is None else published[int(has_loops)]
    return {
        "capture": name,
        "seed": seed,
        **measured,
        "published_m": None if published is None else reference,
        "ratio": measured["ate_m"] / reference,
    }


def geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def table(captures: dict[str, Capture], seeds: list[int], variants: list[str]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for variant in variants:
        options = VARIANTS[variant]
        rows = []
        for name, capture in captures.items():
            for seed in seeds:
                with tempfile.TemporaryDirectory() as folder:
                    measured = run(capture, seed, options, Path(folder) / "run")
                rows.append(with_ratio(name, seed, options.get("loop", True), measured))
                print(variant, json.dumps(rows[-1]), file=sys.stderr, flush=True)
        report[variant] = {
            "ratio": geometric_mean([row["ratio"] for row in rows]),
            "inferences": float(np.mean([row["inferences"] for row in rows])),
            "runs": rows,
        }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--own", action="store_true", help="captures of our own instead of the shared ones")
    arguments = parser.parse_args()
    captures = {name: make() for name, make in (OWN if arguments.own else CAPTURES).items()}
    report = table(captures, arguments.seeds, arguments.variants)
    print(json.dumps({**describe_environment(vars(arguments)), **report}, indent=2))


if __name__ == "__main__":
    main()
