"""The run directory: everything that a run knows, durable from one chunk to the next."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import RunCorruptError, RunMismatchError, StoreError, command_line
from da3stream.scene import (
    Chunk,
    Frame,
    FrameGaussians,
    LoopClosure,
    Prediction,
    Submap,
    SubmapCameras,
    SubmapEdge,
    Trajectory,
    WorldAlignment,
)
from da3stream.store.checksums import checksum_of
from da3stream.store.files import LOCK, SCRATCH, RunFiles
from da3stream.store.frame_file import decode_frames, encode_frames, read_frame
from da3stream.store.full_depth import FullDepth, decode_full_depth, encode_full_depth
from da3stream.store.gaussian_file import decode_gaussians, encode_gaussians
from da3stream.store.journal import JOURNAL, Journal
from da3stream.store.manifest import MANIFEST, encode_manifest, keeps_submaps
from da3stream.store.pending import PendingFile, PendingFolder
from da3stream.store.places import PLACE_EVENTS, PLACE_FOLDERS, StoredPlaces
from da3stream.store.recording import RECORDED, RECORDING_EVENTS, StoredRecording
from da3stream.store.records import (
    ChunkRecord,
    EndOfStream,
    FrameTable,
    PlanRecord,
    RejectedChunk,
    ResourceSample,
    alignment_fields,
    edge_fields,
    image_crc32,
    loop_fields,
    parse_alignment,
    parse_edge,
    parse_loop,
)
from da3stream.store.submap_file import (
    FrameMaps,
    decode_submap,
    encode_submap,
    median_positive,
    read_cameras,
    read_frame_maps,
    read_image_intrinsics,
    reduce_prediction,
)
from da3stream.store.trajectory_file import decode_trajectory, encode_trajectory

TRAJECTORY = "trajectory.safetensors"
REPORT = "report.html"
"""An output that tells of measurements, and is written after the run has finished: without a checksum."""
OWN_FOLDERS = ("submaps", "frames", "full_depth", "gaussians", RECORDED, *PLACE_FOLDERS)


class Run(StoredPlaces):
    """A run directory that this process has locked. Made by `open_run` and `open_existing`; `FollowedRun` is
    one that is only read."""

    def __init__(self, files: RunFiles, lock: int | None, manifest: dict[str, Any]) -> None:
        super().__init__(files, Journal(files))
        self.manifest = manifest
        self._lock = lock
        self.chunks: dict[int, ChunkRecord] = {}
        self.edges: dict[int, dict[int, SubmapEdge]] = {}
        """Edges by chunk index: [later][earlier]. Those of a chunk are there all or not at all."""
        self.loops: dict[tuple[int, int], LoopClosure] = {}
        """Verified candidates by their later and earlier frame, in the order of their verification."""
        self.rejected: dict[tuple[int, ...], RejectedChunk] = {}
        """Chunks without new frames that were made in vain, by their frames."""
        self.plans: list[PlanRecord] = []
        """In the order in which they were made."""
        self.end_of_stream: EndOfStream | None = None
        self.outputs: set[str] = set()
        self.alignment: WorldAlignment | None = None
        """The world frame that was chosen by hand."""
        self._owner = np.zeros(0, np.int32)
        """(N,) the chunk that owns each frame; -1 where none does."""
        self.recording = StoredRecording(files, self._journal)
        """The frames of an input that comes only once."""
        self._has_begun = False
        self._read_journal()

    def close(self) -> None:
        """Leave nothing unfinished and release the lock. Closing again does nothing."""
        if self._lock is not None:
            lock, self._lock = self._lock, None
            try:
                self.files.clean_scratch()
            finally:
                os.close(lock)

    @property
    def root(self) -> Path:
        """The folder."""
        return self.files.root

    @property
    def is_complete(self) -> bool:
        """Whether everything up to the end of the source is stored, so that it need not be decoded again."""
        return (
            self.end_of_stream is not None
            and all(self.is_intact(record) for record in self.chunks.values())
            and all(self.has_descriptors(index) for index in self.chunks if self.needs_descriptors(index))
            and not self.has_lost_vocabulary
        )

    @property
    def is_finished(self) -> bool:
        """Whether all outputs were written, and no --overwrite that was killed has begun to remove them."""
        return self.manifest["status"] == "finished" and self.files.exists(TRAJECTORY)

    @property
    def is_whole(self) -> bool:
        """Whether nothing that a finished run has to keep, beside its outputs, is lost or damaged."""
        if self.manifest.get("checksums", {}).get(TRAJECTORY) != checksum_of(self.files.path(TRAJECTORY)):
            return False
        return not keeps_submaps(self.manifest) or self.is_complete

    @property
    def changed_outputs(self) -> list[str]:
        """Outputs of a finished run that are not as they were written: lost, damaged, or edited."""
        checksums = self.manifest.get("checksums", {})
        return [path for path, crc32 in checksums.items() if checksum_of(self.files.path(path)) != crc32]

    @property
    def fine_chunks(self) -> list[ChunkRecord]:
        """The chunks that own frames, in the order of their frames."""
        return [self.chunks[index] for index in range(len(self.chunks)) if self.chunks[index].chunk.new]

    @property
    def typical_confidence(self) -> float:
        """Median over the chunks of their median confidence; 0 if all of it is 0."""
        medians = [
            record.typical_confidence for record in self.chunks.values() if record.typical_confidence > 0
        ]
        return float(np.median(medians)) if medians else 0.0

    # What was recorded ----------------------------------------------------------------------

    def chunk_with(self, frame: int) -> ChunkRecord | None:
        """The stored chunk that owns a frame, None if there is none."""
        owner = self._owner  # may be replaced meanwhile: chunks are stored in another thread
        return self.chunks.get(int(owner[frame])) if 0 <= frame < len(owner) else None

    def stored_chunk(self, context: Sequence[Frame], new_frames: Sequence[Frame]) -> ChunkRecord | None:
        """The stored chunk of these very frames, None if there is none or its files are damaged.

        Raises:
            RunMismatchError: the first new frame is stored, but in a chunk of others.
        """
        record = self.chunk_with(new_frames[0].index)
        if record is None:
            return None
        frames = tuple(frame.index for frame in (*context, *new_frames))
        crcs = [image_crc32(frame.image) for frame in new_frames]
        if record.chunk.frames != frames or record.frames.crc32.tolist() != crcs:
            raise self._other_frames(record.chunk.index)
        return record if self.is_intact(record) else None

    def expect(self, chunk: Chunk) -> None:
        """Raise RunMismatchError if another chunk is stored in the place of this one."""
        record = self.chunks.get(chunk.index)
        if record is not None and record.chunk != chunk:
            raise self._other_frames(chunk.index)

    def _other_frames(self, index: int) -> RunMismatchError:
        return RunMismatchError(
            f"the input decodes to other frames than those of chunk {index} in {self.root}",
            hint="Give the original input, or start again with --overwrite.",
        )

    def plan_for(self, frame: int) -> PlanRecord | None:
        """The plan by which the chunk that owns a frame is made, None if there is none yet."""
        return next((plan for plan in reversed(self.plans) if plan.first_frame <= frame), None)

    def is_intact(self, record: ChunkRecord) -> bool:
        """Whether the files of a chunk are there and match their checksums."""
        return all(self.files.is_intact(path, crc) for path, crc in record.files.items())

    def submap(self, index: int) -> Submap:
        """A stored submap. RunCorruptError if its file is missing or damaged."""
        record = self.chunks[index]
        return decode_submap(self._read(record, submap_path(index)), record.chunk, record.is_metric)

    def cameras(self, index: int) -> SubmapCameras:
        """The cameras of a stored submap, without reading its pixels."""
        return read_cameras(self.files.path(submap_path(index)), self.chunks[index].chunk)

    def image_intrinsics(self, index: int) -> NDArray[np.float64]:
        """(N, 3, 3) of all frames of a chunk, in pixels of the processing-resolution images."""
        return read_image_intrinsics(self.files.path(submap_path(index)))

    def images(self, index: int) -> NDArray[np.uint8]:
        """(M, H, W, 3) RGB images of the frames that a chunk owns."""
        return decode_frames(self._read(self.chunks[index], frames_path(index)))

    def owner(self, frame: int) -> ChunkRecord:
        """The chunk that owns a stored frame; KeyError if it is not stored."""
        return self.chunks[self._owner_of(frame)]

    def descriptors_of(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        """(K, dim) stored place descriptors of frames (K,), which increase.

        Raises:
            KeyError: a frame is not stored.
            RunCorruptError: they are missing or cannot be read.
        """
        owners = [self._owner_of(int(frame)) for frame in frames]
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        return np.concatenate(
            [
                self.read_descriptors(owners[start], own - self.chunks[owners[start]].chunk.new[0])
                for start, own in zip(starts, np.split(frames, starts[1:]), strict=True)
            ]
        )

    def stored_frames(self, frames: Sequence[int]) -> tuple[Frame, ...]:
        """Any stored frames, with their images as the JPEGs have them. KeyError if one is not stored."""
        if not frames:
            return ()
        images = self.images_of(frames)
        return tuple(self._stored_frame(frame, image) for frame, image in zip(frames, images, strict=True))

    def _stored_frame(self, index: int, image: NDArray[np.uint8]) -> Frame:
        record = self.owner(index)
        row, table = record.chunk.new.index(index), record.frames
        width, height = table.original_size[row]
        return Frame(
            index=index,
            source_index=int(table.source_index[row]),
            timestamp_s=float(table.timestamp_s[row]),
            image=image,
            name=table.names[row],
            original_size=(int(width), int(height)),
            world_from_cam=None if table.world_from_cam is None else table.world_from_cam[row],
            intrinsics=None if table.intrinsics is None else table.intrinsics[row],
        )

    def known_poses(self, frames: Sequence[int]) -> NDArray[np.float64] | None:
        """(K, 4, 4) poses of any stored frames that were known beforehand; None if they were not."""
        poses = []
        for frame in frames:
            record = self.owner(frame)
            if record.frames.world_from_cam is None:
                return None
            poses.append(record.frames.world_from_cam[frame - record.chunk.new[0]])
        return np.stack(poses)

    def pose_priors(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(P,) stored frames that have a prior pose, increasing, and (P, 4, 4) these poses."""
        frames: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
        poses: list[NDArray[np.float64]] = [np.zeros((0, 4, 4))]
        for record in self.fine_chunks:
            priors = record.frames.pose_priors
            if priors is not None:
                has_one = ~np.isnan(priors[:, 0, 0])
                frames.append(np.array(record.chunk.new, dtype=np.int64)[has_one])
                poses.append(priors[has_one])
        return np.concatenate(frames), np.concatenate(poses)

    def images_of(self, frames: Sequence[int]) -> NDArray[np.uint8]:
        """(K, H, W, 3) RGB images of any stored frames, as their JPEGs have them."""
        wanted: dict[int, list[int]] = {}
        for frame in frames:
            wanted.setdefault(self._owner_of(frame), []).append(frame)
        image_of: dict[int, NDArray[np.uint8]] = {}
        for index, owned in wanted.items():
            content = self._read(self.chunks[index], frames_path(index))
            image_of.update(zip(owned, decode_frames(content, owned), strict=True))
        return np.stack([image_of[frame] for frame in frames])

    def image_of(self, frame: int) -> NDArray[np.uint8]:
        """(H, W, 3) RGB image of one stored frame, read alone. KeyError if it is not stored.

        Raises:
            RunCorruptError: its file cannot be read.
        """
        return read_frame(self.files.path(frames_path(self._owner_of(frame))), frame)

    def maps_of(self, frame: int) -> FrameMaps:
        """Depth and confidence of one stored frame by its owner, read alone and not checked. KeyError if it
        is not stored.

        Raises:
            RunCorruptError: its file cannot be read.
        """
        chunk = self.owner(frame).chunk
        return read_frame_maps(self.files.path(submap_path(chunk.index)), chunk.frames.index(frame))

    def preview(self, chunk: Chunk, prediction: Prediction, image_size: tuple[int, int]) -> Submap:
        """The submap that a later reader would see if the prediction were stored."""
        reduced = reduce_prediction(chunk, prediction, image_size)
        return decode_submap(encode_submap(reduced), chunk, prediction.is_metric)

    def full_depth(self, index: int) -> FullDepth | None:
        """Full-size depth of the frames that a chunk owns, if it was kept."""
        path = full_depth_path(index)
        record = self.chunks[index]
        return decode_full_depth(self._read(record, path)) if path in record.files else None

    def gaussians(self, index: int) -> FrameGaussians | None:
        """Gaussians of the frames that a chunk owns, if they were predicted."""
        path = gaussians_path(index)
        record = self.chunks[index]
        return decode_gaussians(self._read(record, path)) if path in record.files else None

    def needs_descriptors(self, index: int) -> bool:
        """Whether the new frames of a chunk are to be described: if the manifest names a descriptor, and the
        video can be described."""
        asked = self.manifest.get("place", "none") != "none" and self.no_places is None
        return asked and bool(self.chunks[index].chunk.new)

    # Recording ------------------------------------------------------------------------------

    def put_chunk(
        self,
        chunk: Chunk,
        new_frames: Sequence[Frame],
        prediction: Prediction,
        *,
        image_size: tuple[int, int],
        keep_full: bool,
        resources: Callable[[], ResourceSample] | None = None,
    ) -> Submap:
        """Store a prediction.

        Args:
            chunk: what was reconstructed.
            new_frames: the frames that it owns; none of a coarse or loop chunk.
            prediction: of all its frames.
            image_size: (width, height) in pixels at processing resolution.
            keep_full: store full-size depth of the new frames, too.
            resources: asked for what the run takes when the files are there; None: that is not recorded.

        Returns the submap as a later reader will see it.
        """
        submap = reduce_prediction(chunk, prediction, image_size)
        contents = {submap_path(chunk.index): encode_submap(submap)}
        if new_frames:
            contents[frames_path(chunk.index)] = encode_frames(new_frames)
        if keep_full and new_frames:
            contents[full_depth_path(chunk.index)] = encode_full_depth(prediction, len(chunk.context))
        if prediction.gaussians is not None and new_frames:
            contents[gaussians_path(chunk.index)] = encode_gaussians(prediction.gaussians, len(chunk.context))
        for path, content in contents.items():
            self.files.write(path, content)
        record = ChunkRecord(
            chunk=chunk,
            frames=FrameTable.of(new_frames),
            image_size=image_size,
            is_metric=prediction.is_metric,
            typical_confidence=median_positive(submap.confidence),
            settled_intrinsics=prediction.settled_intrinsics,
            warnings=prediction.warnings,
            files={path: zlib.crc32(content) for path, content in contents.items()},
            resources=None if resources is None else resources(),
        )
        self._journal.append("chunk", **record.fields())
        self._adopt(record)
        return decode_submap(contents[submap_path(chunk.index)], chunk, prediction.is_metric)

    def note_beginning(self) -> None:
        """Keep in the journal what was asked for, in case that the manifest is lost."""
        if not self._has_begun:
            self._journal.append("begin", manifest={**self.manifest, "status": "running"})
            self._has_begun = True

    def forget_from(self, chunk: int, reason: str) -> StoreError:
        """Go back, durably, to before a chunk was made; this object is of no use any more, `close` it.

        Returns what to raise.
        """
        start = self._journal.find(lambda event: event["event"] == "chunk" and event["index"] == chunk)
        assert start is not None, "the chunk was recorded"
        self._journal.go_back_to(start)
        return StoreError(
            f"chunk {chunk} of the run {self.root} is damaged and cannot be made again as it was: {reason}",
            hint=f"What follows from it is made anew by: {command_line('resume', self.root)}",
        )

    def put_plan(self, plan: PlanRecord) -> None:
        """Record how chunks are made from one on."""
        self._journal.append("plan", **plan.fields())
        self.plans.append(plan)

    def put_edges(self, chunk: int, edges: Sequence[SubmapEdge]) -> None:
        """Record all edges of a chunk to earlier ones."""
        event: dict[str, Any] = {
            "event": "edges",
            "chunk": chunk,
            "edges": [edge_fields(edge) for edge in edges],
        }
        self._journal.append(**event)
        self._replay(event)

    def put_loop(self, loop: LoopClosure) -> None:
        """Record what became of a candidate."""
        self._journal.append("loop", **loop_fields(loop))
        self._adopt_loop(loop)

    def put_rejected(self, rejected: RejectedChunk) -> None:
        """Record that a chunk without new frames was made in vain."""
        self._journal.append("rejected_chunk", **rejected.fields())
        self.rejected[rejected.frames] = rejected

    def end_stream(self, frames: int, warnings: Sequence[str]) -> None:
        """Record that the source has ended and that everything that follows from its frames is stored."""
        self._journal.append("end_of_stream", frames=frames, warnings=list(warnings))
        self.end_of_stream = EndOfStream(frames=frames, warnings=tuple(warnings))

    def put_alignment(self, alignment: WorldAlignment | None) -> None:
        """Record the world frame of all outputs; None: the one that the run came out in.

        The run counts as unfinished from then on, until its outputs are written again.
        """
        self.write_manifest(status="running")
        event = {"event": "alignment", **alignment_fields(alignment)}
        self._journal.append(**event)
        self._replay(event)

    def put_trajectory(self, trajectory: Trajectory) -> None:
        """Store the final trajectory."""
        self.files.write(TRAJECTORY, encode_trajectory(trajectory))

    def trajectory(self) -> Trajectory:
        """The trajectory of a finished run."""
        return decode_trajectory(self.files.read(TRAJECTORY))

    def file(self, path: str) -> PendingFile:
        """Begin an output file."""
        self._announce(path)
        return self.files.file(path)

    def folder(self, path: str) -> PendingFolder:
        """Begin an output folder."""
        self._announce(path)
        return self.files.folder(path)

    def written(self, path: str) -> Path | None:
        """Where an output of a finished run lies; None if it is lost, damaged or edited."""
        crc32, place = self.manifest.get("checksums", {}).get(path), self.files.path(path)
        return place if crc32 is not None and checksum_of(place) == crc32 else None

    def write_manifest(self, **changes: Any) -> None:
        """Change entries of run.json, durably. That of a finished run has the checksums of its outputs."""
        self.manifest = {**self.manifest, **changes}
        if changes.get("status") == "finished":
            paths = [TRAJECTORY, *sorted(self.outputs - {REPORT})]
            self.manifest["checksums"] = {path: checksum_of(self.files.path(path)) for path in paths}
            self.manifest["alignment"] = alignment_fields(self.alignment) or None
        self.files.write(MANIFEST, encode_manifest(self.manifest))

    def drop_intermediate(self) -> None:
        """Remove everything but the outputs and the manifest (`--keep none`)."""
        for folder in OWN_FOLDERS:
            self.files.remove(folder)

    def remove_if_blank(self) -> None:
        """Remove a run of which nothing is stored, and its folder if nothing else lies in it."""
        if not self.chunks and not self.recording.batches:
            for path in (*OWN_FOLDERS, MANIFEST, JOURNAL, SCRATCH, LOCK):
                self.files.remove(path)
            with contextlib.suppress(OSError):  # what lies there is not ours
                self.root.rmdir()

    # Inside ---------------------------------------------------------------------------------

    def _adopt(self, record: ChunkRecord) -> None:
        """A chunk that is made anew has a frame and scale of its own; edges to the old one mean nothing.

        All edges of the chunks that had one to it are measured again, and its descriptors are made anew.
        """
        index = record.chunk.index
        self.forget_descriptors(index)
        if index in self.chunks:
            self.end_of_stream = None
            for later in [index, *(b for b, edges in self.edges.items() if index in edges)]:
                self.edges.pop(later, None)
        self.chunks[index] = record
        if record.chunk.new:
            missing = max(0, record.chunk.new[-1] + 1 - len(self._owner))
            owner = np.pad(self._owner, (0, missing), constant_values=-1)
            owner[list(record.chunk.new)] = index
            self._owner = owner

    def _adopt_loop(self, loop: LoopClosure) -> None:
        self.loops[loop.candidate.later, loop.candidate.earlier] = loop

    def _read_journal(self) -> None:
        for event in self._journal.read():
            self._replay(event)

    def _owner_of(self, frame: int) -> int:
        if not 0 <= frame < len(self._owner) or self._owner[frame] < 0:
            raise KeyError(frame)
        return int(self._owner[frame])

    def _announce(self, path: str) -> None:
        """Outputs are journaled before they appear, so that --overwrite knows what is ours."""
        if path not in self.outputs:
            self._journal.append("output", path=path)
            self.outputs.add(path)

    def _read(self, record: ChunkRecord, path: str) -> bytes:
        return self.files.read_checked(path, record.files[path])

    def _replay(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "chunk":
                self._adopt(ChunkRecord.parse(event))
            case "edges":
                edges = [parse_edge(fields) for fields in event["edges"]]
                self.edges[event["chunk"]] = {edge.a: edge for edge in edges}
            case "loop":
                self._adopt_loop(parse_loop(event))
            case "rejected_chunk":
                rejected = RejectedChunk.parse(event)
                self.rejected[rejected.frames] = rejected
            case "plan":
                self.plans.append(PlanRecord.parse(event))
            case "end_of_stream":
                self.end_of_stream = EndOfStream(frames=event["frames"], warnings=tuple(event["warnings"]))
            case "output":
                self.outputs.add(event["path"])
            case "alignment":
                self.alignment = parse_alignment(event)
            case "begin":
                self._has_begun = True
            case name if name in PLACE_EVENTS:
                self.replay_places(event)
            case name if name in RECORDING_EVENTS:
                self.recording.replay(event)
            case other:
                raise RunCorruptError(f"{self.root / JOURNAL} holds the unknown event {other!r}")


def submap_path(index: int) -> str:
    """Where the submap of a chunk lies."""
    return f"submaps/{index:06d}.safetensors"


def frames_path(index: int) -> str:
    """Where the images of a chunk's new frames lie."""
    return f"frames/{index:06d}.zip"


def full_depth_path(index: int) -> str:
    """Where the full-size depth of a chunk's new frames lies."""
    return f"full_depth/{index:06d}.safetensors"


def gaussians_path(index: int) -> str:
    """Where the Gaussians of a chunk's new frames lie."""
    return f"gaussians/{index:06d}.safetensors"
