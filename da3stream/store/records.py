"""What the journal says, as types; and the types as journal lines."""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import InputError
from da3stream.geometry.sim3 import Sim3
from da3stream.scene import (
    Chunk,
    ChunkSizes,
    Frame,
    LoopCandidate,
    LoopClosure,
    SubmapEdge,
    WorldAlignment,
)
from da3stream.store.journal import Event


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameTable:
    """What is known of the frames that a chunk owns, beside their pixels. Row i belongs to `chunk.new[i]`."""

    source_index: NDArray[np.int64]
    """(M,)"""
    timestamp_s: NDArray[np.float64]
    """(M,)"""
    given_names: tuple[str, ...] | None
    """None: all follow from the source indices, as in a video; an hour of names is megabytes."""
    original_size: NDArray[np.int64]
    """(M, 2) width, height."""
    crc32: NDArray[np.int64]
    """(M,) of the pixels at processing resolution."""
    world_from_cam: NDArray[np.float64] | None = None
    """(M, 4, 4) poses that were known beforehand, or None."""
    pose_priors: NDArray[np.float64] | None = None
    """(M, 4, 4) prior poses, NaN for frames without one; None if no frame has one."""
    intrinsics: NDArray[np.float64] | None = None
    """(M, 3, 3) in pixels at processing resolution, if each frame has a known camera of its own."""

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> FrameTable:
        """The table of some frames."""
        return cls(
            source_index=np.array([frame.source_index for frame in frames], dtype=np.int64),
            timestamp_s=np.array([frame.timestamp_s for frame in frames], dtype=np.float64),
            given_names=_given(
                [frame.name or _name(frame.source_index) for frame in frames],
                [frame.source_index for frame in frames],
            ),
            original_size=np.array([frame.original_size or frame.size for frame in frames], dtype=np.int64),
            crc32=np.array([image_crc32(frame.image) for frame in frames], dtype=np.int64),
            world_from_cam=known_poses_of(frames),
            pose_priors=_priors_of([frame.pose_prior for frame in frames]),
            intrinsics=own_intrinsics_of(frames),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """(M,) file names."""
        if self.given_names is not None:
            return self.given_names
        return tuple(_name(index) for index in self.source_index.tolist())


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceSample:
    """What a run took at a moment. Measured, so not the same in another run of the same input."""

    began_s: float
    """When the process began with the run; seconds since 1970. Another one after resuming."""
    time_s: float
    """The moment."""
    rss_bytes: int | None
    """Resident memory of the process, without its children; None where the system does not say."""
    disk_bytes: int
    """What the run directory takes, about."""
    gpu_bytes: int | None
    """The most that the process has reserved on its GPU; None if it uses none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChunkRecord:
    """One finished chunk."""

    chunk: Chunk
    frames: FrameTable
    image_size: tuple[int, int]
    """(width, height) of the processing-resolution images."""
    is_metric: bool
    typical_confidence: float
    """Median of the submap's confidences > 0; 0 if there are none."""
    files: dict[str, int]
    """Path -> CRC-32."""
    settled_intrinsics: NDArray[np.float64] | None = None
    """(3, 3) in pixels of the processing-resolution images, if this chunk settled them for all later ones."""
    warnings: tuple[str, ...] = ()
    resources: ResourceSample | None = None
    """When it was stored."""

    def fields(self) -> dict[str, Any]:
        """The fields of its journal line."""
        table = self.frames
        return {
            "index": self.chunk.index,
            "scale": self.chunk.scale,
            "context": list(self.chunk.context),
            "new": list(self.chunk.new),
            "source_index": table.source_index.tolist(),
            "timestamp_s": table.timestamp_s.tolist(),
            "names": list(table.names),
            "original_size": table.original_size.tolist(),
            "crc32": table.crc32.tolist(),
            "world_from_cam": None if table.world_from_cam is None else table.world_from_cam.tolist(),
            "pose_priors": _prior_rows(table.pose_priors),
            "intrinsics": None if table.intrinsics is None else table.intrinsics.tolist(),
            "image_size": list(self.image_size),
            "is_metric": self.is_metric,
            "settled_intrinsics": None
            if self.settled_intrinsics is None
            else self.settled_intrinsics.tolist(),
            "typical_confidence": self.typical_confidence,
            "files": self.files,
            "warnings": list(self.warnings),
            "resources": None if self.resources is None else asdict(self.resources),
        }

    @classmethod
    def parse(cls, event: Event) -> ChunkRecord:
        """The record of a journal line."""
        table = FrameTable(
            source_index=np.array(event["source_index"], dtype=np.int64),
            timestamp_s=np.array(event["timestamp_s"], dtype=np.float64),
            given_names=_given(event["names"], event["source_index"]),
            original_size=np.array(event["original_size"], dtype=np.int64).reshape(-1, 2),
            crc32=np.array(event["crc32"], dtype=np.int64),
            world_from_cam=parse_poses(event.get("world_from_cam")),
            pose_priors=_priors_of(event.get("pose_priors") or ()),
            intrinsics=parse_intrinsics(event.get("intrinsics")),
        )
        chunk = Chunk(
            index=event["index"],
            scale=event["scale"],
            context=tuple(event["context"]),
            new=tuple(event["new"]),
        )
        width, height = event["image_size"]
        settled = event["settled_intrinsics"]
        return cls(
            chunk=chunk,
            frames=table,
            image_size=(width, height),
            is_metric=event["is_metric"],
            settled_intrinsics=None if settled is None else np.array(settled),
            typical_confidence=event["typical_confidence"],
            files=dict(event["files"]),
            warnings=tuple(event["warnings"]),
            resources=ResourceSample(**event["resources"]) if event.get("resources") else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRecord:
    """How long chunks are from a frame on, and how the estimator cuts its work."""

    first_frame: int
    """Chunks that own this frame or later ones are made so."""
    sizes: ChunkSizes
    execution: Mapping[str, int] | None = None
    """In the estimator's words; None if it has no choice."""
    planned_bytes: int | None = None
    """What the process was expected to take on the device."""
    budget_bytes: int | None = None
    """What it may take."""
    warning: str | None = None
    """Why this plan replaced another."""

    def fields(self) -> dict[str, Any]:
        """The fields of its journal line."""
        return {
            "first_frame": self.first_frame,
            "size": self.sizes.size,
            "overlap": self.sizes.overlap,
            "execution": None if self.execution is None else dict(self.execution),
            "planned_bytes": self.planned_bytes,
            "budget_bytes": self.budget_bytes,
            "warning": self.warning,
        }

    @classmethod
    def parse(cls, event: Event) -> PlanRecord:
        """The record of a journal line."""
        return cls(
            first_frame=event["first_frame"],
            sizes=ChunkSizes(size=event["size"], overlap=event["overlap"]),
            execution=event["execution"],
            planned_bytes=event["planned_bytes"],
            budget_bytes=event["budget_bytes"],
            warning=event["warning"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedChunk:
    """A chunk without new frames that joins nothing, and is therefore not stored."""

    scale: int
    frames: tuple[int, ...]
    reason: str
    """In words, for the report."""

    def fields(self) -> dict[str, Any]:
        """The fields of its journal line."""
        return {"scale": self.scale, "frames": list(self.frames), "reason": self.reason}

    @classmethod
    def parse(cls, event: Event) -> RejectedChunk:
        """The record of a journal line."""
        return cls(scale=event["scale"], frames=tuple(event["frames"]), reason=event["reason"])


@dataclass(frozen=True, kw_only=True, slots=True)
class EndOfStream:
    """The source has ended."""

    frames: int
    warnings: tuple[str, ...] = field(default_factory=tuple)
    """What the source lost or repaired."""


def loop_fields(loop: LoopClosure) -> dict[str, Any]:
    """The fields of a loop's journal line."""
    return {
        **asdict(loop.candidate),
        "chunk": loop.chunk,
        "reason": loop.reason,
        "evidence": dict(loop.evidence),
    }


def parse_loop(event: Event) -> LoopClosure:
    """The loop of a journal line."""
    candidate = LoopCandidate(**{part.name: event[part.name] for part in fields(LoopCandidate)})
    return LoopClosure(
        candidate=candidate, chunk=event["chunk"], reason=event["reason"], evidence=event["evidence"]
    )


def edge_fields(edge: SubmapEdge) -> dict[str, Any]:
    """An edge in plain JSON values."""
    return {
        "a": edge.a,
        "b": edge.b,
        "kind": edge.kind,
        "scale": float(edge.a_from_b.scale),
        "rotation": edge.a_from_b.rotation.tolist(),
        "translation": edge.a_from_b.translation.tolist(),
        "information": edge.information.tolist(),
        "evidence": {
            key: value.tolist() if isinstance(value, array) else value for key, value in edge.evidence.items()
        },
    }


def parse_edge(event: Event) -> SubmapEdge:
    """The edge of `edge_fields`. What its evidence says frame by frame is packed: there are many frames."""
    transform = Sim3(scale=event["scale"], rotation=event["rotation"], translation=event["translation"])
    return SubmapEdge(
        a=event["a"],
        b=event["b"],
        kind=event["kind"],
        a_from_b=transform,
        information=np.array(event["information"]),
        evidence=_packed(event["evidence"]),
    )


def alignment_fields(alignment: WorldAlignment | None) -> dict[str, Any]:
    """An alignment of the world in plain JSON values; nothing for none."""
    if alignment is None:
        return {}
    return {
        "scale": float(alignment.world_from_run.scale),
        "rotation": alignment.world_from_run.rotation.tolist(),
        "up": alignment.up,
        "is_metric": alignment.is_metric,
    }


def parse_alignment(event: Event) -> WorldAlignment | None:
    """The alignment of `alignment_fields`."""
    if "rotation" not in event:
        return None
    return WorldAlignment(
        world_from_run=Sim3(scale=event["scale"], rotation=event["rotation"], translation=np.zeros(3)),
        up=event["up"],
        is_metric=event["is_metric"],
    )


def _packed(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence with lists of numbers as arrays, a sixth of the size, and with every key only once."""
    kinds = {"frames": "q", "depth_ratios": "d"}
    return {
        sys.intern(key): array(kinds[key], value) if key in kinds else value
        for key, value in evidence.items()
    }


def _name(source_index: int) -> str:
    """What a frame is called that has no name of its own."""
    return f"{source_index:06d}.jpg"


def _given(names: Sequence[str], source_index: Sequence[int]) -> tuple[str, ...] | None:
    """The names, None if they follow from the indices."""
    return None if list(names) == [_name(index) for index in source_index] else tuple(names)


def known_poses_of(frames: Sequence[Frame]) -> NDArray[np.float64] | None:
    """(M, 4, 4) known poses of frames, None if they have none. InputError if only some have one."""
    return _of_all_or_none([frame.world_from_cam for frame in frames], "a known pose")


def own_intrinsics_of(frames: Sequence[Frame]) -> NDArray[np.float64] | None:
    """(M, 3, 3) known cameras of frames that have one each; None if they have none. InputError if only some
    have one."""
    return _of_all_or_none([frame.intrinsics for frame in frames], "intrinsics")


def _of_all_or_none(values: Sequence[NDArray[np.float64] | None], what: str) -> NDArray[np.float64] | None:
    known = [value for value in values if value is not None]
    if known and len(known) < len(values):
        raise InputError(
            "the source broke its contract",
            got=f"{len(known)} of {len(values)} frames with {what}",
            expected=f"{what} of all frames, or of none",
        )
    return np.stack(known) if known else None


def parse_poses(rows: Any) -> NDArray[np.float64] | None:
    """(M, 4, 4) poses of a journal line, None if it has none."""
    return None if rows is None else np.array(rows, dtype=np.float64).reshape(-1, 4, 4)


def parse_intrinsics(rows: Any) -> NDArray[np.float64] | None:
    """(M, 3, 3) cameras of a journal line, None if it has none."""
    return None if rows is None else np.array(rows, dtype=np.float64).reshape(-1, 3, 3)


def _priors_of(poses: Sequence[Any]) -> NDArray[np.float64] | None:
    """(M, 4, 4) prior poses of M frames, each of which may be None; None if all are."""
    if all(pose is None for pose in poses):
        return None
    missing = np.full((4, 4), np.nan)
    return np.array([missing if pose is None else pose for pose in poses], dtype=np.float64)


def _prior_rows(priors: NDArray[np.float64] | None) -> list[Any] | None:
    """The same in plain JSON values, which know no NaN."""
    return None if priors is None else [None if np.isnan(pose[0, 0]) else pose.tolist() for pose in priors]


def image_crc32(image: NDArray[np.uint8]) -> int:
    """CRC-32 of an image's pixels."""
    return zlib.crc32(np.ascontiguousarray(image).data)
