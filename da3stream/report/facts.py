"""What a run directory says of itself, as the report needs it. Reads no more pixels than are shown."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from da3stream.geometry.sim3 import Sim3
from da3stream.loop_closure.verification import problem_of_edge
from da3stream.placed_map import PlacedMap
from da3stream.placed_map_summary import world_from_chain_of
from da3stream.scene import LoopClosure, Trajectory
from da3stream.store import Run
from da3stream.store.manifest import keeps_submaps
from da3stream.store.records import ResourceSample

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seam:
    """How a fine chunk was joined to the one before it."""

    chunk: int
    previous: int
    first_frame: int
    last_frame: int
    shared_frames: int
    points: int
    residual: float | None
    """Robust standard deviation of the shared points relative to their depth; None: joined by poses alone."""
    inlier_ratio: float | None
    scale: float
    """Of the chunk's unit in the unit of the one before."""
    problem: str | None
    """What would have refused this join if it had been a loop; None if nothing."""


class Facts:
    """A run, finished or not. Everything is derived when it is asked for; the run must stay open."""

    def __init__(self, run: Run, placed: PlacedMap | None = None) -> None:
        """
        Args:
            run: the run directory.
            placed: the finished map, if it is at hand; else only the chain of chunks is made anew.
        """
        self.run = run
        self.manifest: Mapping[str, Any] = run.manifest
        self.is_finished = run.is_finished
        self.has_pixels = (run.root / "submaps").is_dir() and (run.root / "frames").is_dir()
        self._placed = placed

    @cached_property
    def input_name(self) -> str:
        """The input without the folders that it lies in, which are nobody's business.

        Of a folder the last two names: most are called `images`.
        """
        given = self.manifest["input"]
        if given is None:
            return "a source object"
        if urlsplit(given).netloc:
            return str(given)
        parts = PurePath(given).parts[-2 if self.manifest["source"].startswith("images:") else -1 :]
        return str(PurePath(*parts))

    @cached_property
    def name(self) -> str:
        """The run directory without the folders that it lies in: it may be moved, and the page with it."""
        return self.run.root.resolve().name

    @cached_property
    def keeps_depth(self) -> bool:
        """Whether it can be exported and aligned once it has finished: not with `--keep none`."""
        return keeps_submaps(self.manifest)

    @cached_property
    def chunk_sizes(self) -> str:
        """How many frames the chunks have."""
        sizes = list(dict.fromkeys((plan.sizes.size, plan.sizes.overlap) for plan in self.run.plans))
        return ", then ".join(f"{size} frames that share {overlap}" for size, overlap in sizes)

    @cached_property
    def frames(self) -> int:
        """Frames that are reconstructed so far."""
        records = self.run.fine_chunks
        return records[-1].chunk.new[-1] + 1 if records else 0

    @cached_property
    def timestamp_s(self) -> Array:
        """(N,) of all frames."""
        times = [record.frames.timestamp_s for record in self.run.fine_chunks]
        return np.concatenate(times) if times else np.zeros(0)

    @cached_property
    def trajectory(self) -> Trajectory | None:
        """None until the run has finished."""
        return self.run.trajectory() if self.is_finished else None

    @cached_property
    def positions_after(self) -> Array | None:
        """(N, 3) camera centres in the world."""
        return None if self.trajectory is None else self.trajectory.world_from_cam[:, :3, 3]

    @cached_property
    def positions_before(self) -> Array | None:
        """(N, 3) camera centres as the chain of chunks alone places them; None without stored submaps."""
        if self._placed is None and self.has_pixels and self.run.chunks:
            world_from_chain = world_from_chain_of(self.manifest.get("optimisation", {}))
            if self.is_finished and world_from_chain is None:
                self._placed = PlacedMap.of(self.run, self.manifest["config"]["scale_prior"])
            else:
                self._placed = PlacedMap.chain_of(self.run, world_from_chain or Sim3.identity())
        if self._placed is None or not len(self._placed):
            return None
        return self._placed.chain_centres()

    @cached_property
    def is_metric(self) -> bool:
        """Whether lengths are metres."""
        return bool(self.manifest.get("is_metric", False))

    @cached_property
    def chosen_world(self) -> str | None:
        """What `da3stream align` has made of the world, in words; None if nothing."""
        alignment = self.run.alignment
        if alignment is None or not self.is_finished:
            return None
        turned = {"plane": "turned upright by the ground plane", "gravity": "turned upright by gravity"}
        words = "not turned" if alignment.up is None else turned[alignment.up]
        scale = f"scaled by {alignment.world_from_run.scale:.6g}" if alignment.is_metric else "not scaled"
        return f"{words}, {scale}"

    @cached_property
    def loops(self) -> list[LoopClosure]:
        """All verified candidates, in the order of their verification."""
        return list(self.run.loops.values())

    @cached_property
    def closed_loops(self) -> int:
        """Accepted loops that the map uses."""
        return sum(loop.is_accepted and loop.chunk not in self.unused_loops for loop in self.loops)

    @cached_property
    def unused_loops(self) -> set[int]:
        """Chunks of accepted loops that the optimisation weighted down to nothing."""
        return set(self.manifest.get("optimisation", {}).get("loops_unused", ()))

    @cached_property
    def seams(self) -> list[Seam]:
        """One for every fine chunk but the first, in their order."""
        fine = [record.chunk for record in self.run.fine_chunks]
        edges = [
            (before, chunk, self.run.edges[chunk.index][before.index])
            for before, chunk in itertools.pairwise(fine)
            if before.index in self.run.edges.get(chunk.index, {})
        ]
        ratios = [edge.evidence.get("inlier_ratio", 0.0) for _, _, edge in edges]
        typical = float(np.median(ratios)) if ratios else 1.0
        return [
            Seam(
                chunk=chunk.index,
                previous=before.index,
                first_frame=chunk.new[0],
                last_frame=chunk.new[-1],
                shared_frames=len(edge.evidence["frames"]),
                points=edge.evidence["points"],
                residual=edge.evidence.get("relative_residual"),
                inlier_ratio=edge.evidence.get("inlier_ratio"),
                scale=float(edge.a_from_b.scale),
                problem=problem_of_edge(edge, typical),
            )
            for before, chunk, edge in edges
        ]

    @cached_property
    def samples(self) -> list[ResourceSample]:
        """What the process took when each chunk was stored, in the order of time; the last one at the end."""
        samples = [record.resources for record in self.run.chunks.values() if record.resources is not None]
        end = self.manifest.get("measured", {}).get("end")
        if end is not None:
            samples.append(ResourceSample(**end))
        return sorted(samples, key=lambda sample: sample.time_s)

    @cached_property
    def is_resumed(self) -> bool:
        """Whether more than one process worked on the run; the last one measured for itself."""
        return len({sample.began_s for sample in self.samples}) > 1

    def seconds_of(self, frame: int) -> float:
        """Timestamp of a frame."""
        return float(self.timestamp_s[frame])

    def chunk_of(self, frame: int) -> int:
        """The chunk that owns a frame."""
        fine = self.run.fine_chunks
        starts = [record.chunk.new[0] for record in fine]
        return fine[bisect.bisect_right(starts, frame) - 1].chunk.index

    def outputs(self) -> list[tuple[str, int]]:
        """Outputs that are there, and their bytes; folders with all that is in them."""
        found = []
        for name in sorted(self.run.outputs):
            path = self.run.root / name
            if path.exists() and name != "report.html":
                found.append((name, _bytes_below(path)))
        return found


def _bytes_below(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
