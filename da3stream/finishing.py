"""The finishing pass: the trajectory and the outputs. A pure function of the run directory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from da3stream.config import OUTPUT_OPTIONS, Config, load_config
from da3stream.errors import ConfigError, option
from da3stream.placed_map import PlacedMap
from da3stream.progress import Progress, ProgressCallback
from da3stream.result import warnings_of
from da3stream.scene import FrameBlock, Trajectory
from da3stream.scene.submap import NEGLIGIBLE_CONFIDENCE
from da3stream.source.base import FrameSource, HasOriginals
from da3stream.source.undistortion import lens_of
from da3stream.store import Run
from da3stream.store.numbered_names import numbered_in
from da3stream.writers import Writer, WriterContext, create_writers, export_names
from da3stream.writers.flying_pixels import without_flying_pixels
from da3stream.writers.outliers import OutlierFilter

COARSE = 1e-4
"""Steps between the numbers that coordinates of points can have, over the extent of the path."""
FAR = 1e4
"""No path is far from the origin before that: a camera that stands has an extent of nothing, too."""


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


def formats_of(run: Run, config: Config) -> tuple[str, ...]:
    """The formats of a run: those that it is asked for, and those that were exported since."""
    return tuple(dict.fromkeys((*export_names(config), *run.manifest.get("formats", ()))))


def block_of(
    run: Run, placed: PlacedMap, index: int, typical_confidence: float, *, with_gaussians: bool = False
) -> FrameBlock:
    """The finished frames that one chunk owns, with their pixels.

    Reduced depth whose confidence is nothing beside the run's typical one (a constant where nothing could be
    measured, a filled hole) counts as unknown: it helps to join chunks, but is no point of the scene.
    Gaussians, which are large, are read only `with_gaussians`.
    """
    record, submap = run.chunks[index], run.submap(index)
    own = slice(len(record.chunk.context), None)
    cameras = placed.assemble(record.chunk.new)
    scale = cameras.depth_scale.astype(np.float32)[:, None, None]
    full = run.full_depth(index)
    gaussians = run.gaussians(index) if with_gaussians else None
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
        gaussians=None if gaussians is None else gaussians.scaled(cameras.depth_scale),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenOutputs:
    """What came of the outputs."""

    figures: Mapping[str, Mapping[str, Any]]
    """Format -> figures about it, in plain JSON values; empty for most. `depth` is "reduced" of those with
    depth maps that hold no more; `warnings` are a writer's own."""

    @property
    def warnings(self) -> list[str]:
        """What went wrong without ending the run."""
        return warnings_of_outputs(self.figures)

    def entries(self, run: Run, placed: PlacedMap) -> dict[str, Any]:
        """Entries of run.json about all outputs of a run, of which these were just written.

        What it said about older ones of the same formats is replaced.
        """
        before = run.manifest.get("outputs", {})
        outputs = {name: figures for name, figures in before.items() if name not in self.figures}
        outputs |= {name: dict(figures) for name, figures in self.figures.items() if figures}
        of_map = [*placed.warnings, *too_far_out(run.trajectory())]
        warnings = [*warnings_of(run), *of_map, *warnings_of_outputs(outputs)]
        return {"outputs": outputs, "warnings": warnings}


def write_outputs(
    run: Run,
    placed: PlacedMap,
    names: Sequence[str],
    config: Config,
    *,
    source: FrameSource | None,
    progress: ProgressCallback,
) -> WrittenOutputs:
    """Stream all finished frames through the writers of these formats. Nothing appears until all is there."""
    trajectory = run.trajectory()
    context = WriterContext(
        outputs=run,
        config=config,
        positions_in_world=trajectory.world_from_cam[:, :3, 3],
        is_metric=placed.is_metric,
        timestamps_are_synthetic=run.manifest["timestamps_are_synthetic"],
        numbered_in=numbered_in(run.manifest["source"], [record.frames for record in run.fine_chunks]),
        originals=source if isinstance(source, HasOriginals) else None,
        positions_before=placed.chain_centres(),
        loops=tuple(run.loops.values()),
        loops_used=placed.loops_used(),
        pose_uncertainties=placed.pose_uncertainties(),
        earlier=run.manifest.get("outputs", {}),
        written=run.written,
        say=lambda line: progress(Progress(stage="outputs", message=line)),
        lens=lens_of(config),
    )
    with run.files.writing("the outputs"):
        writers = create_writers(names, context)
        try:
            blocks = _cleaned(run, placed, config, with_gaussians="gs_ply" in names)
            for block in _reported(run, blocks, len(trajectory), progress):
                for writer in writers:
                    writer.add(block)
            for writer in writers:
                writer.finish()
        except BaseException:
            for writer in writers:
                writer.abort()
            raise
    named = zip(_distinct(names), writers, strict=True)
    written = WrittenOutputs(figures={name: _figures_of(writer, config) for name, writer in named})
    for warning in written.warnings:
        progress(Progress(stage="outputs", message=warning))
    return written


def write_formats(
    run: Run,
    placed: PlacedMap,
    names: Sequence[str],
    config: Config,
    *,
    source: FrameSource | None,
    progress: ProgressCallback,
) -> WrittenOutputs:
    """Write each of these formats with the options that it was exported with (`manifest["output_options"]`),
    or else with those of the run. Those of the same options appear together."""
    groups: dict[str, list[str]] = {}
    recorded = run.manifest.get("output_options", {})
    for name in names:
        groups.setdefault(json.dumps(recorded.get(name, {}), sort_keys=True), []).append(name)
    written = [
        write_outputs(
            run, placed, members, with_options(config, json.loads(options)), source=source, progress=progress
        )
        for options, members in groups.items()
    ]
    return WrittenOutputs(
        figures={name: figures for each in written for name, figures in each.figures.items()}
    )


def with_options(config: Config, options: Mapping[str, Any]) -> Config:
    """The options of a run with other ones of its outputs.

    Raises:
        ConfigError: they are no options of outputs, or not allowed.
    """
    strange = sorted(options.keys() - set(OUTPUT_OPTIONS))
    if strange:
        raise ConfigError(
            f"{', '.join(map(option, strange))} cannot be chosen for the outputs of a finished run",
            expected=f"some of {', '.join(sorted(OUTPUT_OPTIONS))}",
            hint="Run again with it, or check the spelling.",
        )
    return load_config(None, {**config.model_dump(mode="json"), **options}) if options else config


def _distinct(names: Sequence[str]) -> list[str]:
    """The formats in the order of their writers."""
    return list(dict.fromkeys(names))


def _figures_of(writer: Writer, config: Config) -> dict[str, Any]:
    """What is to be said about the output of a writer that has finished."""
    figures = dict(writer.report)
    if writer.has_full_depth and config.keep != "full":
        figures["depth"] = "reduced"
    if writer.warnings:
        figures["warnings"] = list(writer.warnings)
    return figures


def warnings_of_outputs(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What `WrittenOutputs.figures` say went wrong, in words."""
    reduced = [name for name, said in figures.items() if said.get("depth") == "reduced"]
    said = [warning for figure in figures.values() for warning in figure.get("warnings", ())]
    if not reduced:
        return said
    line = f"{', '.join(reduced)}: with the reduced depth (a third of the size); --keep full keeps all of it"
    return [line, *said]


def too_far_out(trajectory: Trajectory) -> list[str]:
    """A line if the path is so far from the origin (UTM coordinates, say) that clouds get coarse."""
    centres = trajectory.world_from_cam[:, :3, 3]
    reach, extent = float(np.abs(centres).max(initial=0.0)), float(np.ptp(centres, axis=0).max(initial=0.0))
    step = float(np.spacing(np.float32(reach)))
    if step <= COARSE * extent or reach < FAR:
        return []
    return [
        f"the path is so far from the origin that points, which have 32 bits, lie on steps of {step:.2g}: "
        "subtract a position from all those in the file of --poses"
    ]


def _cleaned(run: Run, placed: PlacedMap, config: Config, *, with_gaussians: bool) -> Iterator[FrameBlock]:
    """All finished frames. Flying pixels and outliers have confidence 0: no writer makes points of them.

    Full-size depth stays as the estimator gave it.
    """
    outliers: OutlierFilter | None = None
    if config.outlier_sigma > 0:
        outliers = OutlierFilter(
            _without_flying_pixels(run, placed, config.edge_angle),
            sigma=config.outlier_sigma,
            percentile=config.confidence_percentile,
        )
    for block in _without_flying_pixels(run, placed, config.edge_angle, with_gaussians):
        yield block if outliers is None else outliers.clean(block)


def _without_flying_pixels(
    run: Run, placed: PlacedMap, edge_angle_deg: float, with_gaussians: bool = False
) -> Iterator[FrameBlock]:
    typical_confidence = run.typical_confidence
    for record in run.fine_chunks:
        block = block_of(run, placed, record.chunk.index, typical_confidence, with_gaussians=with_gaussians)
        yield without_flying_pixels(block, edge_angle_deg)


def _reported(
    run: Run, blocks: Iterator[FrameBlock], frames: int, progress: ProgressCallback
) -> Iterator[FrameBlock]:
    done, chunks = 0, len(run.fine_chunks)
    for number, block in enumerate(blocks, start=1):
        yield block
        done += len(block)
        progress(Progress(stage="outputs", chunk=number, chunks=chunks, frames=done, frames_total=frames))
