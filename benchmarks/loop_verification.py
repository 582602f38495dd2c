"""Which loops pass verification: right ones, places that do not overlap, and places that look alike.

    python benchmarks/loop_verification.py [--level 1] [--seeds 1 2 3] [--side 15] [--pairs 30]

Simulated captures of the shared folder. `right` are the candidates of `places.py` whose cameras are closer
than the scale of the simulated descriptor and look within 40 degrees of each other, `wrong` its others.
`apart` are random pairs of different places; the simulator gives their true relative pose, so that accepting
one is no error if the places do see each other: `apart_blind` are those without a common surface in the true
depth. `alike_S` are different places that the estimator puts on top of each other with an offset of S radians
and S of the depth.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from metadata import describe_environment
from places import CHUNK, MAX_ANGLE_DEG, SHARED, STEP, online_candidates

from da3stream.alignment import align_submaps
from da3stream.estimation import GeometryEstimator
from da3stream.evaluation import load_trajectory
from da3stream.loop_closure.overlap import measure_overlap
from da3stream.loop_closure.verification import LoopSides, LoopVerdict, verify_loop
from da3stream.scene import Chunk, Submap, SubmapEdge
from da3stream.store.submap_file import decode_submap, encode_submap, reduce_prediction
from da3stream.synthetic.aliasing import AliasingEstimator
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedEstimator, SimulatedWorld

Pair = tuple[int, int]
MIN_SHARED = 4
CAPTURES: dict[str, dict[str, Any]] = {
    "city_loop": {"indoor": False, "size": (14, 44), "hfov_deg": 82.0, "scale_m": 8.0},
    "chess": {"indoor": True, "size": (18, 24), "hfov_deg": 60.0, "scale_m": 1.0},
}
ALIKE_OFFSETS = (0.03, 0.1, 0.3)


class Capture:
    """A world, its fine submaps by one estimator, and what verification needs of them."""

    def __init__(self, world: SimulatedWorld, seed: int, level: float, side: int) -> None:
        self.world, self.seed, self.level, self.side = world, seed, level, side
        estimator = SimulatedEstimator(world, seed, level)
        self.submaps = [_submap(estimator, chunk) for chunk in _fine_chunks(len(world))]
        self.edges = {(a.chunk.index, b.chunk.index): align_submaps(a, b) for a, b in pairwise(self.submaps)}
        self.typical_inlier_ratio = float(
            np.median([edge.evidence.get("inlier_ratio", 0.0) for edge in self.edges.values()])
        )
        scales = [float(edge.a_from_b.scale) for edge in self.edges.values()]
        self.world_scales = dict(enumerate(np.cumprod([1.0, *scales]).tolist()))

    def verify(self, pair: Pair, estimator: GeometryEstimator) -> LoopVerdict:
        sides = self.sides(pair)
        chunk = Chunk(index=len(self.submaps), context=sides.earlier + sides.later, new=())
        submap = _submap(estimator, chunk)
        met = [s for s in self.submaps if len(set(s.chunk.frames) & set(chunk.frames)) >= MIN_SHARED]
        between = [edge for pair_, edge in self.edges.items() if set(pair_) <= {s.chunk.index for s in met}]
        edges: list[SubmapEdge] = [align_submaps(s, submap, "loop") for s in met]
        return verify_loop(
            submap,
            sides,
            edges,
            between,
            typical_inlier_ratio=self.typical_inlier_ratio,
            world_scales=self.world_scales,
        )

    def sides(self, pair: Pair) -> LoopSides:
        return LoopSides(earlier=self._window(pair[0]), later=self._window(pair[1]))

    def is_blind(self, pair: Pair) -> bool:
        """Whether exact submaps have no surface in common."""
        sides = self.sides(pair)
        chunk = Chunk(index=0, context=sides.earlier + sides.later, new=())
        exact = _submap(SimulatedEstimator(self.world, 0, 0.0), chunk)
        forth = measure_overlap(exact, sides.earlier, sides.later, tolerance=0.02)
        back = measure_overlap(exact, sides.later, sides.earlier, tolerance=0.02)
        return max(forth.confirmed, back.confirmed) < 0.02

    def _window(self, middle: int) -> tuple[int, ...]:
        start = min(max(0, middle - self.side // 2), len(self.world) - self.side)
        return tuple(range(start, start + self.side))


def _fine_chunks(frames: int) -> list[Chunk]:
    starts = range(0, frames - CHUNK + STEP, STEP)
    return [
        Chunk(index=k, context=tuple(range(start, min(start + CHUNK, frames))), new=())
        for k, start in enumerate(starts)
    ]


def _submap(estimator: GeometryEstimator, chunk: Chunk) -> Submap:
    """As the store holds it."""
    images = np.zeros((len(chunk.frames), 1, 1, 3), np.uint8)
    prediction = estimator.estimate(images, indices=np.array(chunk.frames))
    height, width = prediction.depth.shape[1:]
    reduced = reduce_prediction(chunk, prediction, (3 * width, 3 * height))
    return decode_submap(encode_submap(reduced), chunk, prediction.is_metric)


def _is_same_place(world: SimulatedWorld, pair: Pair, scale_m: float, angle_deg: float) -> bool:
    a, b = world.world_from_cam[list(pair)]
    angle = np.degrees(np.arccos(np.clip(a[:3, 2] @ b[:3, 2], -1, 1)))
    return bool(np.linalg.norm(a[:3, 3] - b[:3, 3]) < scale_m and angle < angle_deg)


def _other_places(world: SimulatedWorld, scale_m: float, count: int, seed: int) -> Iterator[Pair]:
    rng = np.random.default_rng(seed)
    while count:
        earlier, later = sorted(int(i) for i in rng.integers(0, len(world), 2))
        if later - earlier >= 100 and not _is_same_place(world, (earlier, later), 3 * scale_m, 60.0):
            count -= 1
            yield earlier, later


def _cases(
    capture: Capture, candidates: Sequence[Pair], scale_m: float, pairs: int
) -> Iterator[tuple[str, LoopVerdict]]:
    world, seed, level = capture.world, capture.seed, capture.level
    honest = SimulatedEstimator(world, seed, level)
    for pair in candidates:
        kind = "right" if _is_same_place(world, pair, scale_m, MAX_ANGLE_DEG) else "wrong"
        yield kind, capture.verify(pair, honest)
    for pair in _other_places(world, scale_m, pairs, seed):
        yield "apart_blind" if capture.is_blind(pair) else "apart", capture.verify(pair, honest)
    for offset in ALIKE_OFFSETS:
        deceived = AliasingEstimator(world, seed, level, offset)
        for pair in _other_places(world, scale_m, pairs, 100 + seed):
            yield f"alike_{offset}", capture.verify(pair, deceived)


def _summary(verdicts: Sequence[LoopVerdict]) -> dict[str, Any]:
    def quantiles(name: str) -> list[float]:
        values = [verdict.evidence[name] for verdict in verdicts]
        return [round(float(q), 3) for q in np.percentile(values, [0, 5, 50, 95, 100])]

    # Reasons differ in their numbers; their first words tell them apart.
    reasons = Counter(" ".join(v.reason.split()[:5]) for v in verdicts if v.reason is not None)
    return {
        "loops": len(verdicts),
        "accepted": sum(verdict.reason is None for verdict in verdicts),
        "confirmed_0_5_50_95_100": quantiles("confirmed"),
        "agreement_0_5_50_95_100": quantiles("agreement"),
        "reasons": dict(reasons),
    }


def run(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    options = dict(CAPTURES[name])
    scale_m = options.pop("scale_m")
    world = SimulatedWorld(load_trajectory(SHARED / "merge" / f"{name}.txt").world_from_cam, 7, **options)
    vectors = SimulatedDescriptor(world, scale_m=scale_m).describe(
        np.zeros(0, np.uint8), indices=np.arange(len(world))
    )
    found = online_candidates(vectors, world.world_from_cam[:, :3, 3], folder)
    candidates = [(one.earlier, one.later) for one in found]
    verdicts: dict[str, list[LoopVerdict]] = defaultdict(list)
    for seed in arguments.seeds:
        capture = Capture(world, seed, arguments.level, arguments.side)
        for kind, verdict in _cases(capture, candidates, scale_m, arguments.pairs):
            verdicts[kind].append(verdict)
    return {kind: _summary(of_kind) for kind, of_kind in verdicts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--level", type=float, default=1.0, help="size of the estimator's errors")
    parser.add_argument("--side", type=int, default=15, help="frames of each place")
    parser.add_argument("--pairs", type=int, default=30, help="false loops of each kind, per seed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = {name: run(name, arguments, Path(folder)) for name in CAPTURES}
    print(json.dumps({**describe_environment(vars(arguments)), **report}, indent=2))


if __name__ == "__main__":
    main()
