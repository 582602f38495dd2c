"""How chunks are joined: edges to earlier submaps, and chunks that are made for nothing but edges.

A bridge is a chunk that owns no frame. A coarse one ties several fine chunks together over a long baseline;
a loop joins two places that look alike. It is made from stored images, and kept only if what it says of the
submaps that it would join can be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from da3stream.alignment import align_submaps
from da3stream.chunking import window_around
from da3stream.errors import EstimationError
from da3stream.loop_closure.verification import LoopSides, problem_of_edge, verify_loop
from da3stream.making import ChunkMaker
from da3stream.measuring import StageTimes
from da3stream.scene import Chunk, LoopCandidate, LoopClosure, Prediction, Submap, SubmapEdge
from da3stream.scene.pose_graph import EdgeKind
from da3stream.scene.submap import NEGLIGIBLE_CONFIDENCE
from da3stream.store import RejectedChunk, Run

MIN_SHARED_FRAMES = 2
"""Submaps that share fewer are not joined, unless they follow each other."""
MIN_COARSE_EDGES = 2
"""A coarse chunk ties submaps together; with one alone it ties nothing."""
MIN_TIED_SHARE = 0.5
"""Of the frames of a coarse chunk, that have to fit fine chunks. Frames that a mapper could not place do not.
"""
MAX_MISFIT = 3.0
"""Residual of coarse edges over that of consecutive chunks. A coarse chunk that errs four times as much (a
residual of 3) says no more about 8 chunks than their chain does."""
MIN_WINDOW = 4
BLOCK = 64
"""Which chunks share frames is looked up by blocks of so many: an entry a frame is too much in an hour."""
WINDOWS_PER_CHUNK = 5
"""A loop has so many times fewer frames of each place than a chunk."""


class Joiner:
    """Measures and stores the edges of every new chunk, and makes the bridges."""

    def __init__(self, run: Run, maker: ChunkMaker, times: StageTimes) -> None:
        self._run, self._maker, self._times = run, maker, times
        self._chunks_near: dict[int, set[int]] = {}
        """The chunks with a frame of each block of `BLOCK` frames."""
        self._inlier_ratios: list[float] = []
        self._residuals: list[float] = []
        self._confidences: list[float] = []
        self._previous_fine: int | None = None
        self.chunks = 0
        """Number of chunks so far, bridges included."""
        self.frames = 0
        """Number of frames that they own."""

    def add(self, submap: Submap) -> None:
        """Join a fine chunk to the one before and to the bridges that share frames with it."""
        index = submap.chunk.index
        if self._previous_fine is not None:
            if index not in self._run.edges:
                recalled = [edge for edge in self._recalled(submap) if self._problem(edge) is None]
                self._run.put_edges(index, [*self._measure(submap), *recalled])
            evidence = self._run.edges[index][self._previous_fine].evidence
            self._inlier_ratios.append(evidence.get("inlier_ratio", 0.0))
            if "relative_residual" in evidence:
                self._residuals.append(evidence["relative_residual"])
        self._previous_fine = index
        self._confidences.append(self._run.chunks[index].typical_confidence)
        self._adopt(submap.chunk)

    def coarse(self, frames: tuple[int, ...], stride: int) -> str | None:
        """Make a coarse chunk of these frames. Returns why it is of no use, None if it was kept."""
        if frames in self._run.rejected:
            return self._run.rejected[frames].reason
        chunk = Chunk(index=self.chunks, scale=stride, context=frames, new=())
        if self._is_joined(chunk):
            self._adopt(chunk)
            return None
        bridge = self._bridge(chunk)
        reason = bridge if isinstance(bridge, str) else self._problem_of_coarse(bridge)
        if isinstance(bridge, str) or reason is not None:
            self._refuse_to_lose(chunk, str(reason))
            self._run.put_rejected(RejectedChunk(scale=stride, frames=frames, reason=str(reason)))
            return reason
        self._keep(bridge)
        return None

    def begin_loop(self, candidate: LoopCandidate, chunk_size: int) -> None:
        """Have the frames of a candidate estimated, which `loop` will ask for; arguments as there."""
        if (candidate.later, candidate.earlier) not in self._run.loops:
            sides = self._sides(candidate, chunk_size)
            self._maker.begin_bridge(sides.earlier + sides.later)

    def loop(
        self, candidate: LoopCandidate, chunk_size: int, world_scales: Callable[[int], float]
    ) -> LoopClosure:
        """Verify a candidate with frames of both places, a fifth of the chunk size of each.

        Args:
            candidate: what to verify.
            chunk_size: of fine chunks, in frames.
            world_scales: scale of the world_from_submap of an earlier chunk, without this loop.
        """
        sides = self._sides(candidate, chunk_size)
        chunk = Chunk(index=self.chunks, context=sides.earlier + sides.later, new=())
        known = self._run.loops.get((candidate.later, candidate.earlier))
        if known is None or (known.is_accepted and not self._is_joined(chunk)):
            known = self._verify(candidate, sides, chunk, world_scales)
            if known.reason is not None:
                self._refuse_to_lose(chunk, known.reason)
            self._run.put_loop(known)
        elif known.is_accepted:
            self._adopt(chunk)
        return known

    def _sides(self, candidate: LoopCandidate, chunk_size: int) -> LoopSides:
        window = max(MIN_WINDOW, chunk_size // WINDOWS_PER_CHUNK)
        return LoopSides(
            earlier=window_around(candidate.earlier, window, self.frames),
            later=window_around(candidate.later, window, self.frames),
        )

    def _verify(
        self,
        candidate: LoopCandidate,
        sides: LoopSides,
        chunk: Chunk,
        world_scales: Callable[[int], float],
    ) -> LoopClosure:
        bridge = self._bridge(chunk)
        if isinstance(bridge, str):
            return LoopClosure(candidate=candidate, chunk=None, reason=bridge)
        joined = {edge.a for edge in bridge.edges}
        between = [edge for b in joined for a, edge in self._run.edges.get(b, {}).items() if a in joined]
        with self._times.stage("verification"):
            verdict = verify_loop(
                bridge.submap,
                sides,
                bridge.edges,
                between,
                typical_inlier_ratio=self._typical_inlier_ratio,
                world_scales={index: world_scales(index) for index in joined},
            )
        if verdict.reason is None:
            self._keep(bridge)
        return LoopClosure(
            candidate=candidate,
            chunk=chunk.index if verdict.reason is None else None,
            reason=verdict.reason,
            evidence=verdict.evidence,
        )

    def _bridge(self, chunk: Chunk) -> _Bridge | str:
        """A bridge with its edges, or why it cannot be made. What is stored of it is not made again."""
        if self._is_stored(chunk):
            submap = self._run.submap(chunk.index)
            return _Bridge(chunk=chunk, prediction=None, submap=submap, edges=self._measure(submap))
        try:
            prediction = self._maker.estimate_bridge(chunk)
        except EstimationError as error:
            return f"its frames cannot be reconstructed together: {error}"
        submap = self._maker.preview(chunk, prediction)
        return _Bridge(chunk=chunk, prediction=prediction, submap=submap, edges=self._measure(submap))

    def _refuse_to_lose(self, chunk: Chunk, reason: str) -> None:
        """StoreError if a bridge that is refused now was stored: all chunks after it are numbered by it."""
        if chunk.index in self._run.chunks:
            raise self._run.forget_from(chunk.index, reason)

    def _problem_of_coarse(self, bridge: _Bridge) -> str | None:
        problems = [self._problem(edge) for edge in bridge.edges]
        trusted = [edge for edge, problem in zip(bridge.edges, problems, strict=True) if problem is None]
        if len(trusted) < MIN_COARSE_EDGES:
            return next((problem for problem in problems if problem), "it shares too few frames with others")
        tied, frames = {f for edge in trusted for f in edge.evidence["frames"]}, len(bridge.chunk.frames)
        if len(tied) < MIN_TIED_SHARE * frames:
            return f"only {len(tied)} of its {frames} frames fit other chunks; they are too far apart"
        misfit = float(np.median([edge.evidence["relative_residual"] for edge in trusted]))
        if self._residuals and misfit > MAX_MISFIT * float(np.median(self._residuals)):
            return (
                f"its depths miss those of other chunks by {misfit:.1%}, more than {MAX_MISFIT:g} times as "
                "far as these miss each other; the frames are too far apart"
            )
        return None

    def _keep(self, bridge: _Bridge) -> None:
        """Store a bridge and those of its edges that can be trusted, unless a killed run has."""
        if bridge.prediction is not None:
            self._maker.store(bridge.chunk, bridge.prediction)
        if bridge.chunk.index not in self._run.edges:
            trusted = [edge for edge in bridge.edges if self._problem(edge) is None]
            self._run.put_edges(bridge.chunk.index, trusted)
        self._adopt(bridge.chunk)

    def _measure(self, submap: Submap) -> list[SubmapEdge]:
        """Edges to all earlier submaps that share enough frames, in their order."""
        shared = self._shared(submap.chunk.window)
        with self._times.stage("alignment"):
            return [
                self._edge(index, submap, frames, self._kind(index, submap.chunk))
                for index, frames in sorted(shared.items())
                if len(frames) >= MIN_SHARED_FRAMES or (submap.chunk.new and index == self._previous_fine)
            ]

    def _recalled(self, submap: Submap) -> list[SubmapEdge]:
        """Edges to earlier submaps that hold keyframes of this one, and that nothing else joins it to."""
        joined = {
            index
            for index, frames in self._shared(submap.chunk.window).items()
            if len(frames) >= MIN_SHARED_FRAMES or index == self._previous_fine
        }
        shared = self._shared(submap.chunk.recalled)
        with self._times.stage("alignment"):
            return [
                self._edge(index, submap, frames, "memory")
                for index, frames in sorted(shared.items())
                if len(frames) >= MIN_SHARED_FRAMES and index not in joined
            ]

    def _shared(self, frames: Sequence[int]) -> dict[int, list[int]]:
        """By chunk, which of these frames lie in its window."""
        shared = {}
        for index in set().union(*(self._chunks_near.get(frame // BLOCK, set()) for frame in frames)):
            window = set(self._run.chunks[index].chunk.window)
            if both := [frame for frame in frames if frame in window]:
                shared[index] = both
        return shared

    def _edge(self, index: int, submap: Submap, frames: Sequence[int], kind: EdgeKind) -> SubmapEdge:
        negligible = NEGLIGIBLE_CONFIDENCE * float(np.median(self._confidences))
        earlier = self._run.submap(index)
        return align_submaps(earlier, submap, kind, frames=frames, negligible_confidence=negligible)

    def _kind(self, index: int, chunk: Chunk) -> EdgeKind:
        kinds = {_kind(self._run.chunks[index].chunk), _kind(chunk)}
        return "loop" if "loop" in kinds else "coarse" if "coarse" in kinds else "overlap"

    def _problem(self, edge: SubmapEdge) -> str | None:
        """Why an edge of a bridge is not to be trusted, None if it is."""
        if len(edge.evidence["frames"]) < MIN_SHARED_FRAMES:
            return "it shares too few frames of which both sides know something"
        return problem_of_edge(edge, self._typical_inlier_ratio)

    @property
    def _typical_inlier_ratio(self) -> float:
        return float(np.median(self._inlier_ratios)) if self._inlier_ratios else 1.0

    def _is_stored(self, chunk: Chunk) -> bool:
        record = self._run.chunks.get(chunk.index)
        return record is not None and record.chunk == chunk and self._run.is_intact(record)

    def _is_joined(self, chunk: Chunk) -> bool:
        """Whether it is stored with its edges; they are missing if a chunk that it joins was made anew."""
        return chunk.index in self._run.edges and self._is_stored(chunk)

    def _adopt(self, chunk: Chunk) -> None:
        for block in {frame // BLOCK for frame in chunk.window}:
            self._chunks_near.setdefault(block, set()).add(chunk.index)
        self.chunks += 1
        self.frames += len(chunk.new)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Bridge:
    chunk: Chunk
    prediction: Prediction | None
    """None if it is stored already."""
    submap: Submap
    """The prediction as it is or would be stored."""
    edges: list[SubmapEdge]
    """To earlier submaps."""


def _kind(chunk: Chunk) -> EdgeKind:
    if chunk.new:
        return "overlap"
    return "coarse" if chunk.scale > 1 else "loop"
