"""How long chunks are: what was asked for, as far as the estimator's device has the memory for it."""

from __future__ import annotations

from dataclasses import replace

from da3stream.config import ChunkingConfig
from da3stream.config.model import DEFAULT_CHUNK_SIZE, SHORTEST_CHUNK
from da3stream.errors import DeviceMemoryError
from da3stream.estimation.base import GeometryEstimator, PlansMemory
from da3stream.scene import ChunkSizes
from da3stream.store import PlanRecord


def first_plan(
    estimator: GeometryEstimator,
    config: ChunkingConfig,
    image_size: tuple[int, int],
    *,
    beside_bytes: int = 0,
) -> PlanRecord:
    """The plan that a run begins with.

    Args:
        estimator: asked how many frames it can take at a time, if it knows.
        config: chunk size and overlap that are wanted.
        image_size: (width, height) in pixels at processing resolution.
        beside_bytes: what the place descriptor takes on the estimator's device.

    Raises:
        DeviceMemoryError: the estimator cannot even take the shortest chunk.
    """
    wanted = None if config.chunk_size == "max" else config.chunk_size
    planner = estimator if isinstance(estimator, PlansMemory) else None
    device = None if planner is None else planner.plan(image_size, wanted, beside_bytes=beside_bytes)
    if device is None:
        return PlanRecord(
            first_frame=0,
            sizes=_sizes(wanted or DEFAULT_CHUNK_SIZE, config),
            execution=None if planner is None else planner.execution,
        )
    warning = None
    if wanted is not None and device.frames < wanted:
        warning = (
            f"chunks have {device.frames} frames instead of {wanted}: the memory of the GPU "
            f"({device.budget_bytes / 2**30:.1f} GiB) holds no more"
        )
    return PlanRecord(
        first_frame=0,
        sizes=_sizes(device.frames, config),
        execution=device.execution,
        planned_bytes=device.planned_bytes,
        budget_bytes=device.budget_bytes,
        warning=warning,
    )


def shorter_plan(
    plan: PlanRecord, frame: int, config: ChunkingConfig, error: DeviceMemoryError
) -> PlanRecord:
    """The plan with half as many frames, from the first new frame of a chunk on that was too long.

    Raises:
        DeviceMemoryError: `error`, if chunks cannot become shorter.
    """
    size = plan.sizes.size // 2
    if size < SHORTEST_CHUNK:
        raise error
    return replace(
        plan,
        first_frame=frame,
        sizes=_sizes(size, config),
        planned_bytes=None,
        warning=f"from frame {frame} on, chunks have {size} frames: the device ran out of memory",
    )


def describe(plan: PlanRecord) -> str:
    """The plan in words."""
    words = f"chunks of {plan.sizes.size} frames that share {plan.sizes.overlap}"
    if plan.planned_bytes is None or plan.budget_bytes is None:
        return words
    planned, budget = plan.planned_bytes / 2**30, plan.budget_bytes / 2**30
    return f"{words}, about {planned:.1f} of {budget:.1f} GiB of GPU memory"


def _sizes(size: int, config: ChunkingConfig) -> ChunkSizes:
    return ChunkSizes(size=size, overlap=config.overlap_of(size))
