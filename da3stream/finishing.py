"""The finishing pass: the trajectory and the outputs. A pure function of the run directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from da3stream.config import Config
from da3stream.placed_map import PlacedMap
from da3stream.progress import Progress, ProgressCallback
from da3stream.scene import FrameBlock, Trajectory
from da3stream.scene.submap import NEGLIGIBLE_CONFIDENCE
from da3stream.source.base import FrameSource, HasOriginals
from da3stream.source.undistortion import lens_of
from da3stream.store import ChunkRecord, Run
from da3stream.writers import WriterContext, create_writers


def trajectory_of(run: Run, placed: PlacedMap) -> Trajectory:
    """The trajectory of all stored frames."""
    records = run.fine_chunks
    return Trajectory(
        index=np.concatenate([np.array(record.chunk.new, dtype=np.int64) for record in records]),
        timestamp_s=np.concatenate([record.frames.timestamp_s for record in records]),
        world_from_cam=np.concatenate(
            [placed.assemble(record.chunk.new).world_from_cam for record in records]
        ),
        intrinsics=np.concatenate(
            [run.image_intrinsics(r.chunk.index)[len(r.chunk.context) :] for r in records]
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
    config: Config,
    *,
    source: FrameSource | None,
    progress: ProgressCallback,
) -> None:
    """Stream all finished frames through the writers of these formats. Nothing appears until all is there."""
    records = run.fine_chunks
    trajectory = run.trajectory()
    context = WriterContext(
        outputs=run,
        config=config,
        positions_in_world=trajectory.world_from_cam[:, :3, 3],
        is_metric=placed.is_metric,
        timestamps_are_synthetic=run.manifest["timestamps_are_synthetic"],
        originals=source if isinstance(source, HasOriginals) else None,
        positions_before=placed.chain_centres(),
        loops=tuple(run.loops.values()),
        loops_used=placed.loops_used(),
        lens=lens_of(config),
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
