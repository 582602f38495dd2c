"""Accuracy of merging on simulated captures with known truth, whole runs, against the published recipe.

    python benchmarks/merging.py                        # the captures of the shared folder, seeds 1 to 3
    python benchmarks/merging.py --seeds 1 2 3 4 5 6 --own      # more seeds, and captures of our own

`ate_m` is the RMSE of the camera centres after a similarity alignment. `published_m` is what the merging of
DA3-Streaming reaches on exactly these fine chunks, from the README of the shared folder; captures and seeds
that are not listed there are compared with a plain chain of the fine chunks, rigid submaps and nothing else,
which is what the recipe does without loops (on the listed ones the chain has 0.99 of its error).
`inferences` is the number of frames estimated over that of the fine chunks of a run without memory.

    python benchmarks/merging.py --wrong-loops          # what wrong loops do to the map

Of the loop candidates 30 % become pairs of unrelated frames that the estimator takes for one place
(`AliasingEstimator`). `ratio` is the ATE over that of a run in which these candidates are left out: once with
the verification as it is (`verified`), once with one that accepts everything (`forced`), so that only the
optimisation stands against them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from metadata import describe_environment
from numpy.typing import NDArray

import da3stream
from da3stream.chunking import count_chunks
from da3stream.evaluation import load_trajectory
from da3stream.geometry.registration import umeyama
from da3stream.loop_closure.verification import LoopVerdict
from da3stream.loop_search import LoopSearch
from da3stream.placed_map import PlacedMap
from da3stream.scene import ChunkSizes, KnownCameras, LoopCandidate, Prediction
from da3stream.store import open_existing
from da3stream.synthetic.aliasing import AliasingEstimator
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
WRONG_SHARE = 0.3
WRONG_GAP = 100
"""The frames of a wrong loop are at least so far apart in the video."""
WRONG_QUANTILE = 0.25
"""The earlier frame is one of this share that saw the least of the same, by position and direction."""
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


class WrongCandidates:
    """Replaces some candidates by wrong ones, or leaves these out."""

    def __init__(self, capture: Capture, seed: int, left_out: bool) -> None:
        self._capture, self._rng, self._left_out = capture, np.random.default_rng(seed), left_out
        self._seen = 0
        self.pairs: set[tuple[int, int]] = set()
        """(earlier, later) of the wrong ones."""

    def __call__(self, candidates: tuple[LoopCandidate, ...]) -> tuple[LoopCandidate, ...]:
        chosen = [self._maybe_spoilt(candidate) for candidate in candidates]
        return tuple(c for c in chosen if not (self._left_out and (c.earlier, c.later) in self.pairs))

    def _maybe_spoilt(self, candidate: LoopCandidate) -> LoopCandidate:
        self._seen += 1
        return self._spoilt(candidate) if len(self.pairs) < WRONG_SHARE * self._seen else candidate

    def _spoilt(self, candidate: LoopCandidate) -> LoopCandidate:
        earlier = self._capture.world.world_from_cam[: max(0, candidate.later - WRONG_GAP)]
        if not len(earlier):
            return candidate
        here = self._capture.world.world_from_cam[candidate.later]
        apart = np.linalg.norm(earlier[:, :3, 3] - here[:3, 3], axis=1) / self._capture.scale_m
        turned = np.arccos(np.clip(earlier[:, :3, 2] @ here[:3, 2], -1, 1))
        unlike = apart + turned
        wrong = replace(
            candidate,
            earlier=int(self._rng.choice(np.flatnonzero(unlike >= np.quantile(unlike, 1 - WRONG_QUANTILE)))),
        )
        self.pairs.add((wrong.earlier, wrong.later))
        return wrong

    def are_in(self, indices: NDArray[Any]) -> bool:
        """Whether these are the frames of a wrong loop."""
        jump = next((k for k, (a, b) in enumerate(pairwise(indices), 1) if abs(b - a) > WRONG_GAP // 2), 0)
        earlier, later = set(indices[:jump].tolist()), set(indices[jump:].tolist())
        return any(pair[0] in earlier and pair[1] in later for pair in self.pairs)


class DeceivedEstimator(CountingEstimator):
    """Takes the places of wrong loops for one."""

    def __init__(self, world: SimulatedWorld, seed: int, wrong: WrongCandidates) -> None:
        super().__init__(world, seed)
        self._wrong, self._aliasing = wrong, AliasingEstimator(world, seed)

    def estimate(
        self, images: NDArray[np.uint8], *, indices: NDArray[Any], known_cameras: KnownCameras | None = None
    ) -> Prediction:
        if self._wrong.are_in(indices):
            return self._aliasing.estimate(images, indices=indices, known_cameras=known_cameras)
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


@contextmanager
def spoilt(wrong: WrongCandidates, forced: bool) -> Iterator[None]:
    """Runs inside search with wrong candidates and, if forced, accept every loop."""
    decide, finish = LoopSearch.decide, LoopSearch.finish
    with (
        mock.patch.object(LoopSearch, "decide", lambda search, chunks: wrong(decide(search, chunks))),
        mock.patch.object(LoopSearch, "finish", lambda search: wrong(finish(search))),
        mock.patch("da3stream.joining.verify_loop", _accept) if forced else nullcontext(),
    ):
        yield


def _accept(*_: Any, **__: Any) -> LoopVerdict:
    return LoopVerdict(reason=None, evidence={"forced": True})


def wrong_loops(captures: dict[str, Capture], seeds: list[int]) -> dict[str, Any]:
    """What wrong candidates do to the error, with and without verification."""
    rows = []
    for name, capture in captures.items():
        for seed in seeds:
            row: dict[str, Any] = {"capture": name, "seed": seed}
            for mode in ("left out", "verified", "forced"):
                wrong = WrongCandidates(capture, seed, left_out=mode == "left out")
                estimator = DeceivedEstimator(capture.world, seed, wrong)
                with tempfile.TemporaryDirectory() as folder, spoilt(wrong, mode == "forced"):
                    row[mode] = run(capture, seed, {}, Path(folder) / "run", estimator)
                    row[mode] |= _fate(Path(folder) / "run", wrong)
            for mode in ("verified", "forced"):
                row[mode]["ratio"] = row[mode]["ate_m"] / row["left out"]["ate_m"]
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    worst = {mode: max(row[mode]["ratio"] for row in rows) for mode in ("verified", "forced")}
    return {"worst_ratio": worst, "runs": rows}


def _fate(folder: Path, wrong: WrongCandidates) -> dict[str, int]:
    """How many wrong loops there were, and how far they came."""
    stored = open_existing(folder)
    used = PlacedMap.of(stored, None).loops_used()
    loops = [
        loop
        for loop in stored.loops.values()
        if (loop.candidate.earlier, loop.candidate.later) in wrong.pairs
    ]
    stored.close()
    return {
        "wrong": len(loops),
        "wrong_accepted": sum(loop.is_accepted for loop in loops),
        "wrong_used": sum(used[loop.chunk] for loop in loops if loop.chunk is not None),
        "right_used": sum(used.values()) - sum(used[loop.chunk] for loop in loops if loop.chunk is not None),
    }


def run(
    capture: Capture,
    seed: int,
    options: dict[str, Any],
    folder: Path,
    estimator: CountingEstimator | None = None,
) -> dict[str, Any]:
    """One run of the whole pipeline, and what it reached."""
    world = capture.world
    estimator = estimator or CountingEstimator(world, seed)
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
    parser.add_argument(
        "--wrong-loops", action="store_true", help="30 %% wrong loop candidates, nothing else"
    )
    arguments = parser.parse_args()
    captures = {name: make() for name, make in (OWN if arguments.own else CAPTURES).items()}
    if arguments.wrong_loops:
        report = wrong_loops(captures, arguments.seeds)
    else:
        report = table(captures, arguments.seeds, arguments.variants)
    print(json.dumps({**describe_environment(vars(arguments)), **report}, indent=2))


if __name__ == "__main__":
    main()
