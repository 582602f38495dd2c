"""The finishing pass: placement, assembly and the outputs. A pure function of the run directory."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from da3stream.assembly import AssembledCameras, PlacedSubmap, assemble
from da3stream.config import OutputConfig
from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import place_submap
from da3stream.progress import Progress, ProgressCallback
from da3stream.scene import FrameBlock, Trajectory
from da3stream.source.base import FrameSource, HasOriginals
from da3stream.store import ChunkRecord, Run
from da3stream.writers import WriterContext, create_writers

SAME_SCALE = 1e-9
"""A smaller change of the logarithm of the scale is rounding."""
NEGLIGIBLE_CONFIDENCE = 0.01
"""Of the run's typical confidence. The classical estimator's fillings have about 0.0005 of it."""


class PlacedMap:
    """All submaps of a run, or of its beginning, where they lie in the world. Holds cameras, no pixels.

    Submap k is placed by what submaps <= k say, so a map of a prefix is a prefix of the map, until
    `settle_scale`.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.submaps: list[PlacedSubmap] = []
        self._world_from: list[Sim3] = []
        self._first_new: list[int] = []

    @classmethod
    def of(cls, run: Run) -> PlacedMap:
        """The map of everything that is stored."""
        placed = cls(run)
        for index in range(len(run.chunks)):
            placed.add(index)
        placed.settle_scale()
        return placed

    def add(self, index: int) -> None:
        """Place the next submap; its edges are stored."""
        chunk = self._run.chunks[index].chunk
        cameras = self._run.cameras(index)["cam_from_submap"]
        if index == 0:
            world_from_submap = Sim3(rotation=cameras[0, :, :3], translation=cameras[0, :, 3])
        else:
            world_from_submap = place_submap(list(self._run.edges[index].values()), self._world_from)
        self._world_from.append(world_from_submap)
        self._first_new.append(chunk.new[0])
        self.submaps.append(
            PlacedSubmap(
                chunk=chunk,
                world_from_submap=world_from_submap,
                cam_from_submap=cameras,
                depth_ratio=self._depth_ratio(index),
            )
        )

    @property
    def is_metric(self) -> bool:
        """Whether lengths are in metres."""
        return any(self._run.chunks[index].is_metric for index in range(len(self.submaps)))

    def settle_scale(self) -> bool:
        """Bring the whole map to metres, once all submaps are there.

        Each metric submap says what a unit of the world is in metres. Until now it was what the first submap
        said; from now on it is the median of all.

        Returns:
            Whether anything has changed.
        """
        said = [
            placed.world_from_submap.scale
            for index, placed in enumerate(self.submaps)
            if self._run.chunks[index].is_metric
        ]
        log_factor = -float(np.median(np.log(said))) if said else 0.0
        if abs(log_factor) < SAME_SCALE:
            return False
        metres_from_world = Sim3(scale=np.exp(log_factor), rotation=np.eye(3), translation=np.zeros(3))
        self._world_from = [metres_from_world @ world_from for world_from in self._world_from]
        self.submaps = [
            replace(placed, world_from_submap=world_from)
            for placed, world_from in zip(self.submaps, self._world_from, strict=True)
        ]
        return True

    def assemble(self, frames: Sequence[int]) -> AssembledCameras:
        """Blended cameras of consecutive frames."""
        wanted = set(frames)
        owner = bisect.bisect_right(self._first_new, min(frames)) - 1
        covering = itertools.takewhile(
            lambda placed: not wanted.isdisjoint(placed.chunk.frames),
            itertools.islice(self.submaps, owner, None),
        )
        return assemble(frames, covering)

    def _depth_ratio(self, index: int) -> dict[int, float]:
        """Context frame -> its depth in the owner over its depth here, along the chain of submaps."""
        if index == 0:
            return {}
        earlier = self.submaps[index - 1].depth_ratio
        evidence = self._run.edges[index][index - 1].evidence
        return {
            frame: earlier.get(frame, 1.0) * ratio
            for frame, ratio in zip(evidence["frames"], evidence["depth_ratios"], strict=True)
        }


def trajectory_of(run: Run, placed: PlacedMap) -> Trajectory:
    """The trajectory of all stored frames."""
    records = [run.chunks[index] for index in range(len(run.chunks))]
    return Trajectory(
        index=np.concatenate([np.array(record.chunk.new, dtype=np.int64) for record in records]),
        timestamp_s=np.concatenate([record.frames.timestamp_s for record in records]),
        world_from_cam=np.concatenate(
            [placed.assemble(record.chunk.new).world_from_cam for record in records]
        ),
        intrinsics=np.concatenate(
            [run.cameras(r.chunk.index)["image_intrinsics"][len(r.chunk.context) :] for r in records]
        ),
        submap=np.concatenate(
            [np.full(len(record.chunk.new), record.chunk.index, dtype=np.int64) for record in records]
        ),
    )


def block_of(run: Run, placed: PlacedMap, index: int, typical_confidence: float) -> FrameBlock:
    """The finished frames that one chunk owns, with their pixels.

    Reduced depth whose confidence is nothing beside the run's typical one (a constant where nothing could be
    measured, a filled hole) counts as unknown: it helps to join chunks, but is no point of the scene.
    """
    record, submap = run.chunks[index], run.submap(index)
    own = slice(len(record.chunk.context), None)
    cameras = placed.assemble(record.chunk.new)
    scale = cameras.depth_scale.astype(np.float32)[:, None, None]
    full = run.full_depth(index)
    table = record.frames
    confidence = submap.confidence[own]
    usable = confidence >= NEGLIGIBLE_CONFIDENCE * typical_confidence
    if submap.sky is not None:
        usable &= ~submap.sky[own]
    return FrameBlock(
        submap=index,
        index=np.array(record.chunk.new, dtype=np.int64),
        source_index=table.source_index,
        timestamp_s=table.timestamp_s,
        names=table.names,
        original_size=table.original_size,
        images=run.images(index),
        world_from_cam=cameras.world_from_cam,
        intrinsics=submap.image_intrinsics[own],
        depth=submap.depth[own] * scale,
        confidence=np.where(usable, confidence, np.float32(0)),
        depth_intrinsics=submap.intrinsics[own],
        full_depth=None if full is None else full.depth * scale,
        full_confidence=None if full is None else full.confidence,
    )


def write_outputs(
    run: Run,
    placed: PlacedMap,
    names: Sequence[str],
    config: OutputConfig,
    *,
    source: FrameSource | None,
    progress: ProgressCallback,
) -> None:
    """Stream all finished frames through the writers of these formats. Nothing appears until all is there."""
    records = [run.chunks[index] for index in range(len(run.chunks))]
    trajectory = run.trajectory()
    context = WriterContext(
        outputs=run,
        config=config,
        positions_in_world=trajectory.world_from_cam[:, :3, 3],
        is_metric=placed.is_metric,
        timestamps_are_synthetic=run.manifest["timestamps_are_synthetic"],
        originals=source if isinstance(source, HasOriginals) else None,
    )
    with run.files.writing("the outputs"):
        writers = create_writers(names, context)
        try:
            for block in _reported(run, placed, records, len(trajectory), progress):
                for writer in writers:
                    writer.add(block)
            for writer in writers:
                writer.finish()
        except BaseException:
            for writer in writers:
                writer.abort()
            raise


def _reported(
    run: Run, placed: PlacedMap, records: Sequence[ChunkRecord], frames: int, progress: ProgressCallback
) -> Iterator[FrameBlock]:
    done, typical_confidence = 0, run.typical_confidence
    for number, record in enumerate(records, start=1):
        yield block_of(run, placed, record.chunk.index, typical_confidence)
        done += len(record.chunk.new)
        progress(
            Progress(stage="outputs", chunk=number, chunks=len(records), frames=done, frames_total=frames)
        )
