"""What a run returns: `Result` at its end, `Update` after every chunk."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.scene import FrameBlock, LoopClosure, Trajectory
from da3stream.store import Run


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Result:
    """A finished run."""

    trajectory: Trajectory
    output: Path
    """The run directory."""
    warnings: tuple[str, ...]
    """What went wrong on the way without ending the run; also in run.json."""
    measured: Mapping[str, Any]
    """Seconds by stage and peak memory of the process that finished the run."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Update:
    """What one more chunk has told. Applying all updates in order gives the final trajectory."""

    chunk: int
    """Index of the chunk."""
    frames: NDArray[np.int64]
    """(M,) indices of the frames that are new."""
    timestamp_s: NDArray[np.float64]
    """(M,) seconds."""
    world_from_cam: NDArray[np.float64]
    """(M, 4, 4) their cameras."""
    corrections: Mapping[int, NDArray[np.float64]]
    """Frame index -> (4, 4) world_from_cam that replaces what an earlier update said."""
    points_in_world: NDArray[np.float32]
    """(K, 3) confident points that the new frames see."""
    colors: NDArray[np.uint8]
    """(K, 3) RGB of the points."""
    depth_factors: Mapping[int, float] = field(default_factory=dict)
    """Frame index of each correction -> what its depth, as it was told when the frame was new, is to be
    multiplied by. A point that a corrected camera saw moves along with it, at this multiple of the distance.
    """
    block: FrameBlock | None = None
    """The new frames with images and reduced depth, without flying pixels; None if there are none."""


def result_of(run: Run) -> Result:
    """What a finished run directory says."""
    manifest = run.manifest
    return Result(
        trajectory=run.trajectory(),
        output=run.root,
        warnings=tuple(manifest["warnings"]),
        measured=manifest["measured"],
    )


def loop_counts(loops: Collection[LoopClosure]) -> dict[str, Any]:
    """Entries of run.json about the verified loop candidates.

    `loops` are those that were closed, `loops_rejected` the others. `loop_rejections` says how often for
    which reason, the most frequent one first, without the figures of the single case.
    """
    kinds = Counter(reason_kind(loop.reason) for loop in loops if loop.reason is not None)
    return {
        "loops": sum(loop.is_accepted for loop in loops),
        "loops_rejected": kinds.total(),
        "loop_rejections": dict(kinds.most_common()),
    }


def reason_kind(reason: str) -> str:
    """A reason without the figures of the single case.

    `only 4% of its points fit, at least 9% are expected; ...` -> `only N% of its points fit`.
    """
    kind = re.split(r"[;:(]|, (?:at least|at most)", reason)[0].strip()
    return re.sub(r"\d+(\.\d+)?", "N", kind)


def warnings_of(run: Run) -> list[str]:
    """What went wrong on the way: in the source, in chunks, between them. Equal words are said once."""
    said = list(run.end_of_stream.warnings) if run.end_of_stream else []
    said += [plan.warning for plan in run.plans if plan.warning is not None]
    if run.no_places is not None:
        said.append(run.no_places)
    chunks_of: dict[str, list[int]] = {}
    for index in range(len(run.chunks)):
        for warning in run.chunks[index].warnings:
            chunks_of.setdefault(warning, []).append(index)
    said += [f"{_named(chunks)}: {warning}" for warning, chunks in chunks_of.items()]
    for later, edges in sorted(run.edges.items()):
        for earlier, edge in sorted(edges.items()):
            if edge.kind == "overlap" and edge.evidence["method"] == "poses":
                said.append(
                    f"chunks {earlier} and {later} share too little depth; joined by camera poses alone"
                )
    rejected = [rejected for rejected in run.rejected.values() if rejected.scale > 1]
    if rejected:
        said.append(f"coarse chunks made in vain: {len(rejected)}; the first one: {rejected[0].reason}")
    return said


def _named(chunks: list[int], limit: int = 8) -> str:
    """`chunk 3`, `chunks 0, 1, 2`, or `36 chunks, the first ones 0, 1, 2`."""
    names = ", ".join(str(index) for index in chunks[:limit])
    if len(chunks) > limit:
        return f"{len(chunks)} chunks, the first ones {names}"
    return f"chunk{'s' if len(chunks) > 1 else ''} {names}"
