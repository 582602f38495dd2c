"""Small captures of submaps that bend, without pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from da3stream.geometry.registration import umeyama
from da3stream.scene import Chunk, PlacedCameras, SubmapCameras, SubmapEdge
from da3stream.synthetic.bent_submaps import (
    Bending,
    BentSubmap,
    bend_submap,
    measure_edges,
    sliding_chunks,
)
from da3stream.synthetic.paths import street_laps

DEPTH_M = 10.0
COARSE_STRIDE = 4


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Submaps, their edges, and the truth."""

    truth: np.ndarray
    bent: list[BentSubmap]
    edges: list[SubmapEdge]

    @property
    def submaps(self) -> list[SubmapCameras]:
        return [bent.cameras for bent in self.bent]


def drive(
    seed: int,
    *,
    bending: Bending | None = None,
    fine: int = 12,
    coarse: int = 0,
    loops: Sequence[tuple[int, int]] = (),
    laps: int = 2,
) -> Capture:
    """Fine chunks of 20 frames, half of them shared, then coarse ones of twice the errors, then loops.

    Args:
        loops: first frames of two windows of 6.
    """
    rng = np.random.default_rng(seed)
    bending = bending or Bending()
    frames = 10 * fine + 10
    truth = street_laps(frames, seed=seed, lap_frames=frames // laps, step_m=0.5)
    chunks = sliding_chunks(frames, size=20, overlap=10)
    for start in range(0, coarse * 10, 10):
        sparse = tuple(range(COARSE_STRIDE * start, frames, COARSE_STRIDE))[:20]
        chunks.append(Chunk(index=len(chunks), scale=COARSE_STRIDE, context=sparse, new=()))
    for first, second in loops:
        windows = tuple(range(first, first + 6)) + tuple(range(second, second + 6))
        chunks.append(Chunk(index=len(chunks), context=windows, new=()))
    twice = Bending(drift=2 * bending.drift, jitter=2 * bending.jitter)
    bent = [
        bend_submap(truth, c, rng, bending=bending if c.scale == 1 else twice, depth_m=DEPTH_M)
        for c in chunks
    ]
    return Capture(truth=truth, bent=bent, edges=measure_edges(bent))


def camera_errors(placed: Sequence[PlacedCameras], truth: np.ndarray) -> np.ndarray:
    """Distances of all cameras of fine submaps from the truth, after alignment."""
    fine = [cameras for cameras in placed if cameras.chunk.new]
    have = np.concatenate([cameras.world_from_cam[:, :3, 3] for cameras in fine])
    want = np.concatenate([truth[list(cameras.chunk.frames), :3, 3] for cameras in fine])
    return np.linalg.norm(umeyama(have, want).apply(have) - want, axis=1)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def with_garbage(edge: SubmapEdge, frame: int, factor: float) -> SubmapEdge:
    """The same edge with another depth ratio of one frame."""
    frames = edge.evidence["frames"]
    ratios = [
        r * (factor if f == frame else 1) for f, r in zip(frames, edge.evidence["depth_ratios"], strict=True)
    ]
    return replace(edge, evidence={**edge.evidence, "depth_ratios": ratios})
