"""Chunks that are as long as the device's memory allows, and runs that are resumed with the same plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import da3stream
from da3stream import Config, Prediction, load_config
from da3stream.errors import DeviceMemoryError
from da3stream.estimation.base import DevicePlan
from da3stream.progress import Progress
from da3stream.store import open_existing
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedSource, SimulatedWorld

from .doubles import FRAMES, CountingEstimator


class SmallDevice(CountingEstimator):
    """Holds so many frames; believes that it holds `believed`."""

    def __init__(self, world: SimulatedWorld, holds: int, believed: int = 1000) -> None:
        super().__init__(world)
        self.holds, self.believed = holds, believed
        self.execution: dict[str, int] = {"views": 8}
        self.beside_bytes: int | None = None
        self.asked: list[tuple[tuple[int, int], int | None]] = []
        self.lengths: list[int] = []
        self.executions: list[dict[str, int]] = []

    def plan(self, image_size: tuple[int, int], frames: int | None, *, beside_bytes: int = 0) -> DevicePlan:
        self.asked.append((image_size, frames))
        self.beside_bytes = beside_bytes
        fits = self.believed if frames is None else min(frames, self.believed)
        return DevicePlan(
            frames=fits,
            execution={"views": 4},
            planned_bytes=fits * 2**30,
            budget_bytes=self.believed * 2**30,
        )

    def estimate(self, images: Any, *, indices: Any, known_cameras: Any = None) -> Prediction:
        if len(indices) > self.holds:
            raise DeviceMemoryError("the memory of the GPU is full")
        self.lengths.append(len(indices))
        self.executions.append(dict(self.execution))
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


def run(source: Any, output: Path, config: Config, estimator: Any, **options: Any) -> da3stream.Result:
    return da3stream.reconstruct(source, output, config=config, estimator=estimator, **options)


def sized(size: int | str, **options: Any) -> Config:
    return load_config(
        None, {"colmap_points": "dense", "chunk_size": size, "coarse": 0, "loop": False, **options}
    )


def test_an_estimator_without_a_plan_gets_what_was_asked_for(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    run(source, tmp_path, sized(20), CountingEstimator(world))
    (plan,) = open_existing(tmp_path).plans
    assert (plan.sizes.size, plan.sizes.overlap, plan.execution) == (20, 10, None)


def test_max_without_a_limit_is_the_default(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    run(source, tmp_path, sized("max"), CountingEstimator(world))
    assert open_existing(tmp_path).plans[0].sizes.size == 60


@pytest.mark.parametrize(("wanted", "fits", "size"), [(20, 1000, 20), (20, 12, 12), ("max", 23, 23)])
def test_chunks_are_planned_for_the_device(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource, wanted: Any, fits: int, size: int
) -> None:
    device = SmallDevice(world, holds=1000, believed=fits)
    said: list[Progress] = []
    result = run(source, tmp_path, sized(wanted), device, progress=said.append)
    assert device.asked == [((126, 42), None if wanted == "max" else wanted)]
    assert set(device.lengths[:-1]) == {size}
    assert device.executions[0] == {"views": 4}
    shortened = [line for line in result.warnings if f"chunks have {size} frames instead of {wanted}" in line]
    assert len(shortened) == (wanted == 20 and fits == 12)
    assert any(f"chunks of {size} frames" in (step.message or "") for step in said)
    assert any("GiB of GPU memory" in (step.message or "") for step in said)


def test_what_the_place_descriptor_takes_is_planned_for(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    class Large(SimulatedDescriptor):
        def device_bytes(self) -> int:
            return 7 * 2**20

    for number, (descriptor, expected) in enumerate(
        [(Large(world), 7 * 2**20), (SimulatedDescriptor(world), 0), (None, 0)]
    ):
        device = SmallDevice(world, holds=1000)
        run(source, tmp_path / str(number), sized(20), device, descriptor=descriptor)
        assert device.beside_bytes == expected


def test_a_chunk_that_does_not_fit_is_made_shorter_and_so_are_the_next(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    device = SmallDevice(world, holds=14)
    result = run(source, tmp_path, sized(40), device)
    assert max(device.lengths) == 10
    assert len(result.trajectory) == FRAMES
    assert [line for line in result.warnings if "ran out of memory" in line] == [
        "from frame 0 on, chunks have 20 frames: the device ran out of memory",
        "from frame 0 on, chunks have 10 frames: the device ran out of memory",
    ]


def test_memory_that_is_full_later_shortens_what_follows(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    class Shrinking(SmallDevice):
        def estimate(self, images: Any, *, indices: Any, known_cameras: Any = None) -> Prediction:
            if int(indices[-1]) >= 24:
                self.holds = 9
            return super().estimate(images, indices=indices, known_cameras=known_cameras)

    device = Shrinking(world, holds=16)
    run(source, tmp_path, sized(16), device)
    assert device.lengths[:3] == [16, 16, 8]
    assert max(device.lengths[2:]) == 8
    frames = [frame for record in open_existing(tmp_path).chunks.values() for frame in record.chunk.new]
    assert frames == list(range(FRAMES))


def test_what_cannot_become_shorter_is_an_error(
    tmp_path: Path, world: SimulatedWorld, source: SimulatedSource
) -> None:
    with pytest.raises(DeviceMemoryError, match="memory of the GPU is full"):
        run(source, tmp_path, sized(16), SmallDevice(world, holds=2))


def test_a_resumed_run_keeps_the_plan(tmp_path: Path, world: SimulatedWorld, source: SimulatedSource) -> None:
    """The other device would plan otherwise: what is journaled counts."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(source, whole, sized(40), SmallDevice(world, holds=14, believed=30))
    first = SmallDevice(world, holds=14, believed=30)
    updates = da3stream.stream(source, parts, config=sized(40), estimator=first)
    next(updates), next(updates)
    updates.close()
    other = SmallDevice(world, holds=1000)
    run(source, parts, sized(40), other, resume=True)
    assert other.asked == []
    assert set(other.executions[0].items()) == {("views", 4)}
    for path in sorted((whole / "submaps").iterdir()):
        assert path.read_bytes() == (parts / "submaps" / path.name).read_bytes()


def test_smaller_pieces_are_journaled(tmp_path: Path, world: SimulatedWorld, source: SimulatedSource) -> None:
    class Halving(SmallDevice):
        def estimate(self, images: Any, *, indices: Any, known_cameras: Any = None) -> Prediction:
            if int(indices[-1]) > 30:
                self.execution = {"views": 1}
            return super().estimate(images, indices=indices, known_cameras=known_cameras)

    run(source, tmp_path, sized(16), Halving(world, holds=1000))
    plans = open_existing(tmp_path).plans
    assert [plan.execution for plan in plans] == [{"views": 4}, {"views": 1}]
    assert plans[1].first_frame == 24
    assert json.loads((tmp_path / "run.json").read_text())["warnings"] == []
