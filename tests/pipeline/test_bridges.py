"""Coarse chunks and loops in whole runs: what is made of them, and that nothing on the way leaves a trace."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import da3stream
from da3stream import Config, Progress, load_config, placed_map
from da3stream.errors import DeviceMemoryError, EstimationError
from da3stream.place import describing
from da3stream.placed_map import PlacedMap
from da3stream.store import open_existing
from da3stream.store.journal import Journal
from da3stream.store.run import frames_path, submap_path
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedSource, SimulatedWorld

from .doubles import CountingEstimator, ReportingSource, stored_chunks
from .revisits import (
    LAP,
    SIZE,
    STRIDE,
    DeceivedEstimator,
    Device,
    FailingEstimator,
    FalseDescriptor,
    LapSource,
    MortalEstimator,
    ShrinkingEstimator,
    WildEstimator,
    ate_m,
    bridged,
    is_coarse,
    is_loop,
    loops_of,
    manifest_of,
    outputs_of,
    two_laps,
)
from .test_metric_unit import MetricEstimator, length

FRAMES = 130


@pytest.fixture(scope="module")
def world() -> SimulatedWorld:
    return two_laps(FRAMES)


def run(
    world: SimulatedWorld, output: Path, estimator: Any = None, config: Config | None = None, **options: Any
) -> da3stream.Result:
    options = {"descriptor": SimulatedDescriptor(world), **options}
    source = options.pop("source", None) or SimulatedSource(world)
    estimator = estimator or CountingEstimator(world, level=1.0)
    return da3stream.reconstruct(source, output, config=config or bridged(), estimator=estimator, **options)


def until_the_outputs(progress: Progress) -> None:
    if progress.stage == "outputs":
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld
) -> tuple[Path, CountingEstimator, da3stream.Result]:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    estimator = CountingEstimator(world, level=1.0)
    return folder, estimator, run(world, folder, estimator)


@pytest.fixture(scope="module")
def unwritten(tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld) -> Path:
    """A run that was killed before it wrote its outputs."""
    folder = tmp_path_factory.mktemp("unwritten") / "run"
    with pytest.raises(KeyboardInterrupt):
        run(world, folder, progress=until_the_outputs)
    return folder


def chunks_of(folder: Path, *, coarse: bool = False, loop: bool = False) -> list[int]:
    """Indices of the bridges of a kind, of fine chunks if none is asked for."""
    stored = open_existing(folder)
    chunks = [record.chunk for record in stored.chunks.values()]
    stored.close()
    if coarse or loop:
        return [chunk.index for chunk in chunks if not chunk.new and (chunk.scale > 1) == coarse]
    return [chunk.index for chunk in chunks if chunk.new]


# What is made ---------------------------------------------------------------------------------------------


def test_both_kinds_of_bridges_are_made_and_every_estimate_is_accounted_for(
    whole: tuple[Path, CountingEstimator, da3stream.Result],
) -> None:
    folder, estimator, _ = whole
    manifest, loops = manifest_of(folder), loops_of(folder)
    accepted = [loop for loop in loops if loop["accepted"]]
    assert manifest["coarse_chunks"] == len(chunks_of(folder, coarse=True)) >= 1
    assert manifest["loops"] == len(accepted) == len(chunks_of(folder, loop=True)) >= 2
    assert manifest["chunks"] == len(chunks_of(folder)) == 12
    assert all(loop["used"] for loop in accepted)
    assert len(estimator.chunks) == manifest["chunks"] + manifest["coarse_chunks"] + len(loops)
    coarse = [chunk for chunk in estimator.chunks if is_coarse(np.array(chunk))]
    assert all(set(np.diff(chunk)) == {STRIDE} for chunk in coarse)
    both_places = [chunk for chunk in estimator.chunks if is_loop(np.array(chunk))]
    assert {len(chunk) for chunk in both_places} == {2 * max(4, SIZE // 5)}
    text = (folder / "loop_closures.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in text if line[0] != "#"] == [
        str(loop["later"]) for loop in accepted
    ]


def test_bridges_own_no_frames(
    whole: tuple[Path, CountingEstimator, da3stream.Result], world: SimulatedWorld
) -> None:
    folder, _, result = whole
    assert set(result.trajectory.submap.tolist()) == set(chunks_of(folder))
    assert result.trajectory.index.tolist() == list(range(FRAMES))
    frames = json.loads((folder / "cameras.json").read_text())["frames"]
    assert [frame["index"] for frame in frames] == list(range(FRAMES))
    assert len((folder / "camera_poses.txt").read_text().splitlines()) == FRAMES
    assert len(list((folder / "frames").iterdir())) == len(chunks_of(folder))
    head = (folder / "pcd/combined_pcd.ply").read_bytes()[:300].split(b"end_header")[0].decode()
    (points,) = [int(line.split()[2]) for line in head.splitlines() if line.startswith("element vertex")]
    assert points <= FRAMES * int(np.prod(world.size)), "each frame's points are written once"


def test_bridges_lower_the_error(
    tmp_path: Path, whole: tuple[Path, CountingEstimator, da3stream.Result], world: SimulatedWorld
) -> None:
    plain = run(world, tmp_path, config=bridged(coarse=0, loop=False))
    assert ate_m(whole[2].trajectory, world) < 0.7 * ate_m(plain.trajectory, world)


@pytest.mark.parametrize(
    ("options", "coarse", "loops"),
    [({"loop": False}, True, False), ({"coarse": 0}, False, True), ({"loop_budget": 0}, True, False)],
)
def test_each_kind_can_be_switched_off(
    tmp_path: Path, world: SimulatedWorld, options: dict[str, Any], coarse: bool, loops: bool
) -> None:
    run(world, tmp_path, config=bridged(**options))
    manifest = manifest_of(tmp_path)
    assert (manifest["coarse_chunks"] > 0, manifest["loops"] > 0) == (coarse, loops)
    assert loops or loops_of(tmp_path) == []


def test_without_places_there_are_no_loops(tmp_path: Path, world: SimulatedWorld) -> None:
    run(world, tmp_path, config=bridged(place="none"), descriptor=None)
    assert (manifest_of(tmp_path)["loops"], loops_of(tmp_path)) == (0, [])


@pytest.mark.parametrize("frames", [1, 2, 17, 30])
def test_short_videos_have_no_coarse_chunks(tmp_path: Path, world: SimulatedWorld, frames: int) -> None:
    estimator = CountingEstimator(world, level=1.0)
    result = run(world, tmp_path, estimator, source=SimulatedSource(world, frames=frames))
    manifest = manifest_of(tmp_path)
    assert (len(result.trajectory), manifest["coarse_chunks"]) == (frames, 0)
    assert len(estimator.chunks) == manifest["chunks"] <= 2


# Interruptions --------------------------------------------------------------------------------------------


def resumed_until_done(once: Callable[[], object], most: int) -> int:
    """Run again and again until a run is not killed any more; how often it was."""
    for killed in range(most):
        try:
            once()
        except KeyboardInterrupt:
            continue
        return killed
    raise AssertionError(f"not done after {most} runs")


LIFE = 4
"""Estimates; one more than may be lost with a run."""


def test_killed_at_every_estimate_it_comes_out_the_same(
    tmp_path: Path, whole: tuple[Path, CountingEstimator, da3stream.Result], world: SimulatedWorld
) -> None:
    """A run whose life ends again and again with an estimate. Two chunks may be under way beside a bridge."""
    made: list[tuple[int, ...]] = []
    killed = resumed_until_done(
        lambda: run(world, tmp_path, MortalEstimator(world, LIFE, made), resume=True), most=100
    )
    assert killed >= len(whole[1].chunks) // LIFE - 1
    assert set(made) == set(whole[1].chunks)
    assert outputs_of(tmp_path) == outputs_of(whole[0])


class Killer:
    """Kills a run before the second line that it would journal: the first is written, the second is not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kinds: set[str]) -> None:
        self._append, self._kinds, self.written = Journal.append, kinds, 0
        self.killed: Counter[str] = Counter()
        monkeypatch.setattr(Journal, "append", lambda journal, event, **f: self._count(journal, event, f))

    def _count(self, journal: Journal, event: str, fields: dict[str, Any]) -> None:
        if event in self._kinds:
            if self.written == 1:
                self.written = 0
                self.killed[event] += 1
                raise KeyboardInterrupt
            self.written += 1
        self._append(journal, event, **fields)


BRIDGE_LINES = {"edges", "loop", "rejected_chunk", "end_of_stream"}
ALL_LINES = BRIDGE_LINES | {"chunk", "descriptors", "vocabulary"}


@pytest.mark.parametrize(
    "kinds", [BRIDGE_LINES, pytest.param(ALL_LINES, marks=pytest.mark.slow)], ids=["bridges", "all"]
)
def test_killed_at_every_line_of_the_journal_it_comes_out_the_same(
    tmp_path: Path,
    whole: tuple[Path, CountingEstimator, da3stream.Result],
    world: SimulatedWorld,
    kinds: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    estimator, killer = CountingEstimator(world, level=1.0), Killer(monkeypatch, kinds)

    def once() -> None:
        killer.written = 0
        run(world, tmp_path, estimator, resume=True)

    resumed_until_done(once, most=200)
    assert {"edges", "loop"} <= set(killer.killed)
    assert set(estimator.chunks) == set(whole[1].chunks)
    assert outputs_of(tmp_path) == outputs_of(whole[0])


def test_killed_at_every_verdict_it_comes_out_the_same(
    tmp_path: Path, world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coarse chunks are refused, loops are closed."""
    error, config = EstimationError("the views do not overlap"), bridged(coarse=2)
    run(world, tmp_path / "whole", FailingEstimator(world, coarse=error), config)
    estimator, killer = FailingEstimator(world, coarse=error), Killer(monkeypatch, {"rejected_chunk", "loop"})

    def once() -> None:
        killer.written = 0
        run(world, tmp_path / "parts", estimator, config, resume=True)

    resumed_until_done(once, most=50)
    assert set(killer.killed) == {"rejected_chunk", "loop"}
    assert len(estimator.failed) == 2 + killer.killed["rejected_chunk"]
    assert outputs_of(tmp_path / "parts") == outputs_of(tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_every_estimate_while_the_vocabulary_is_learnt(
    tmp_path: Path, world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With VLAD the first chunks wait for their descriptors, and the search sees them when it first did."""
    monkeypatch.setattr(describing, "TRAINING_FRAMES", 60)
    options: dict[str, Any] = {
        "descriptor": None,
        "source": LapSource(world),
        "config": bridged(place="vlad"),
    }
    estimator, made = CountingEstimator(world, level=1.0), []  # type: ignore[var-annotated]
    run(world, tmp_path / "whole", estimator, **options)
    assert manifest_of(tmp_path / "whole")["loops"] >= 1
    resumed_until_done(
        lambda: run(world, tmp_path / "parts", MortalEstimator(world, LIFE, made), resume=True, **options),
        most=100,
    )
    assert set(made) == set(estimator.chunks)
    assert outputs_of(tmp_path / "parts") == outputs_of(tmp_path / "whole")


DAMAGE: dict[str, Callable[[Path], str]] = {
    "a coarse chunk": lambda folder: submap_path(chunks_of(folder, coarse=True)[0]),
    "the last loop": lambda folder: submap_path(chunks_of(folder, loop=True)[-1]),
    "the first loop": lambda folder: submap_path(chunks_of(folder, loop=True)[0]),
    "a fine chunk": lambda folder: submap_path(chunks_of(folder)[1]),
    "the first chunk": lambda folder: submap_path(0),
    "frames that a bridge needs": lambda folder: frames_path(0),
}


@pytest.mark.parametrize("damaged", DAMAGE)
def test_what_is_damaged_is_made_anew_and_nothing_else(
    tmp_path: Path,
    unwritten: Path,
    whole: tuple[Path, CountingEstimator, da3stream.Result],
    world: SimulatedWorld,
    damaged: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unwritten, folder)
    path = folder / DAMAGE[damaged](folder)
    content = bytearray(path.read_bytes())
    content[-5] ^= 0x10
    path.write_bytes(content)
    estimator = CountingEstimator(world, level=1.0)
    run(world, folder, estimator, resume=True)
    assert len(estimator.chunks) == 1
    assert outputs_of(folder) == outputs_of(whole[0])


def test_lost_frames_and_a_lost_bridge_that_is_made_of_them(
    tmp_path: Path,
    unwritten: Path,
    whole: tuple[Path, CountingEstimator, da3stream.Result],
    world: SimulatedWorld,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unwritten, folder)
    loop = chunks_of(folder, loop=True)[0]
    stored = open_existing(folder)
    owner = stored.owner(stored.chunks[loop].chunk.context[0]).chunk.index
    stored.close()
    (folder / frames_path(owner)).unlink()
    (folder / submap_path(loop)).unlink()
    estimator = CountingEstimator(world, level=1.0)
    run(world, folder, estimator, resume=True)
    assert len(estimator.chunks) == 2
    assert outputs_of(folder) == outputs_of(whole[0])


def test_a_bridge_that_was_stored_but_not_judged_is_not_asked_for_again(
    tmp_path: Path,
    whole: tuple[Path, CountingEstimator, da3stream.Result],
    world: SimulatedWorld,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The device may have no memory for it any more; what is stored counts."""
    append = Journal.append

    def until_the_verdict(journal: Journal, event: str, **fields: Any) -> None:
        if event == "loop":
            raise KeyboardInterrupt
        append(journal, event, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", until_the_verdict)
        with pytest.raises(KeyboardInterrupt):
            run(world, tmp_path)
    made_by_then = len(Counter(chunks_of(tmp_path, loop=True)))
    assert made_by_then == 1

    class Full(CountingEstimator):
        def estimate(self, images: Any, *, indices: Any, known_cameras: Any = None) -> da3stream.Prediction:
            if is_loop(indices) and not self.chunks:
                raise DeviceMemoryError("the memory of the GPU is full")
            return super().estimate(images, indices=indices, known_cameras=known_cameras)

    run(world, tmp_path, Full(world, level=1.0), resume=True)
    assert outputs_of(tmp_path) == outputs_of(whole[0])


# stream() -------------------------------------------------------------------------------------------------


def test_updates_give_the_final_trajectory_and_a_loop_corrects_at_once(
    tmp_path: Path, whole: tuple[Path, CountingEstimator, da3stream.Result], world: SimulatedWorld
) -> None:
    poses: dict[int, np.ndarray] = {}
    closed: list[str] = []
    moved_while_running = 0.0
    source = ReportingSource(SimulatedSource(world))
    updates = da3stream.stream(
        source,
        tmp_path,
        config=bridged(),
        estimator=CountingEstimator(world, level=1.0),
        descriptor=SimulatedDescriptor(world),
        progress=lambda step: closed.append(step.message) if "closed" in (step.message or "") else None,
    )
    loops_before = 0
    for update in updates:
        if len(closed) > loops_before and not source.ended:
            old = [frame for frame in update.corrections if frame < LAP // 2]
            moved = [float(np.abs(poses[frame] - update.corrections[frame]).max()) for frame in old]
            moved_while_running = max([moved_while_running, *moved])
        loops_before = len(closed)
        assert set(update.corrections) <= set(poses)
        poses.update(update.corrections)
        poses.update(zip(update.frames.tolist(), update.world_from_cam, strict=True))
    assert moved_while_running > 0.01
    final = np.stack([poses[frame] for frame in range(FRAMES)])
    assert np.array_equal(final, whole[2].trajectory.world_from_cam)
    assert outputs_of(tmp_path) == outputs_of(whole[0]), "watching changes nothing"


@pytest.mark.parametrize("updates_seen", [3, 9])
def test_a_stream_that_was_left_is_resumed(
    tmp_path: Path,
    whole: tuple[Path, CountingEstimator, da3stream.Result],
    world: SimulatedWorld,
    updates_seen: int,
) -> None:
    options: dict[str, Any] = {"config": bridged(), "descriptor": SimulatedDescriptor(world)}
    first, second = CountingEstimator(world, level=1.0), CountingEstimator(world, level=1.0)
    updates = da3stream.stream(SimulatedSource(world), tmp_path, estimator=first, **options)
    for _ in range(updates_seen):
        next(updates)
    updates.close()
    stored = stored_chunks(tmp_path)
    poses: dict[int, np.ndarray] = {}
    for update in da3stream.stream(
        SimulatedSource(world), tmp_path, estimator=second, resume=True, **options
    ):
        poses.update(update.corrections)
        poses.update(zip(update.frames.tolist(), update.world_from_cam, strict=True))
    assert not set(second.chunks) & stored, "nothing that is stored is estimated again"
    assert set(first.chunks) | set(second.chunks) == set(whole[1].chunks)
    assert np.array_equal(
        np.stack([poses[frame] for frame in range(FRAMES)]), whole[2].trajectory.world_from_cam
    )
    assert outputs_of(tmp_path) == outputs_of(whole[0])


def test_a_long_map_is_not_placed_anew_for_every_edge(
    tmp_path: Path,
    whole: tuple[Path, CountingEstimator, da3stream.Result],
    world: SimulatedWorld,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if it were long: a tenth of the edges is more than most chunks add."""
    optimise, edges = PlacedMap.optimise, []

    def counted(placed: PlacedMap, *arguments: Any) -> None:
        optimise(placed, *arguments)
        assert placed.report is not None
        edges.append(len(placed.report.weights))

    monkeypatch.setattr(PlacedMap, "optimise", counted)
    monkeypatch.setattr(placed_map, "WORTH_OPTIMISING", 0.1)
    poses: dict[int, np.ndarray] = {}
    for update in da3stream.stream(
        SimulatedSource(world),
        tmp_path,
        config=bridged(),
        estimator=CountingEstimator(world, level=1.0),
        descriptor=SimulatedDescriptor(world),
    ):
        poses.update(update.corrections)
        poses.update(zip(update.frames.tolist(), update.world_from_cam, strict=True))
    while_running = edges[:-1]
    assert len(while_running) >= 2
    assert all(later > 1.1 * earlier for earlier, later in pairwise(while_running))
    final = np.stack([poses[frame] for frame in range(FRAMES)])
    assert np.array_equal(final, whole[2].trajectory.world_from_cam)


@pytest.mark.parametrize("visible", [0.0, np.inf])
def test_a_loop_corrects_the_map_at_once_if_it_shows_that_the_map_is_off(
    tmp_path: Path,
    whole: tuple[Path, CountingEstimator, da3stream.Result],
    world: SimulatedWorld,
    monkeypatch: pytest.MonkeyPatch,
    visible: float,
) -> None:
    """Nothing else is worth an optimisation here."""
    optimise, chunks = PlacedMap.optimise, []

    def counted(placed: PlacedMap, *arguments: Any) -> None:
        optimise(placed, *arguments)
        chunks.append(len(placed))

    monkeypatch.setattr(PlacedMap, "optimise", counted)
    monkeypatch.setattr(placed_map, "WORTH_OPTIMISING", 1.0)
    monkeypatch.setattr(placed_map, "VISIBLE", visible)
    poses: dict[int, np.ndarray] = {}
    for update in da3stream.stream(
        SimulatedSource(world),
        tmp_path,
        config=bridged(),
        estimator=CountingEstimator(world, level=1.0),
        descriptor=SimulatedDescriptor(world),
    ):
        poses.update(update.corrections)
        poses.update(zip(update.frames.tolist(), update.world_from_cam, strict=True))
    assert (len(chunks) > 1) == (visible == 0.0), "the last one is that of the whole"
    final = np.stack([poses[frame] for frame in range(FRAMES)])
    assert np.array_equal(final, whole[2].trajectory.world_from_cam)


# Estimators that fail at bridges --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [EstimationError("the views do not overlap"), DeviceMemoryError("the memory is full")]
)
def test_coarse_chunks_that_cannot_be_made_are_switched_off(
    tmp_path: Path, world: SimulatedWorld, error: Exception
) -> None:
    estimator = FailingEstimator(world, coarse=error)
    config = bridged(coarse=2)
    result = run(world, tmp_path, estimator, config=config)
    assert len(estimator.failed) == 2
    assert manifest_of(tmp_path)["coarse_chunks"] == 0
    assert manifest_of(tmp_path)["loops"] >= 2, "loops go on"
    (warning,) = [line for line in result.warnings if "coarse" in line]
    assert "made in vain: 2" in warning
    assert str(error) in warning
    assert max(record.first_frame for record in open_plans(tmp_path)) == 0, "chunks stay as long as they were"


def open_plans(folder: Path) -> list[Any]:
    stored = open_existing(folder)
    stored.close()
    return stored.plans


def test_coarse_nonsense_is_refused_and_switched_off_and_a_resumed_run_agrees(
    tmp_path: Path, world: SimulatedWorld
) -> None:
    config = bridged(coarse=2)
    estimator = WildEstimator(world, level=1.0)
    result = run(world, tmp_path / "whole", estimator, config=config)
    assert sum(is_coarse(np.array(chunk)) for chunk in estimator.chunks) == 2
    assert manifest_of(tmp_path / "whole")["coarse_chunks"] == 0
    assert any("coarse chunks made in vain: 2" in line for line in result.warnings)
    without = run(world, tmp_path / "without", config=bridged(coarse=0))
    assert np.array_equal(result.trajectory.world_from_cam, without.trajectory.world_from_cam)

    made: set[tuple[int, ...]] = set()
    for stop_after in (6, 4, 100):
        again = WildEstimator(world, level=1.0, fail_at=stop_after)
        with contextlib.suppress(KeyboardInterrupt):
            run(world, tmp_path / "parts", again, config=config, resume=True)
        made.update(again.chunks)
    assert made == set(estimator.chunks)
    assert outputs_of(tmp_path / "parts") == outputs_of(tmp_path / "whole")


@pytest.mark.parametrize(
    "error", [EstimationError("the views do not overlap"), DeviceMemoryError("the memory is full")]
)
def test_a_loop_that_cannot_be_made_is_rejected_with_the_reason(
    tmp_path: Path, world: SimulatedWorld, error: Exception
) -> None:
    estimator = FailingEstimator(world, loop=error)
    result = run(world, tmp_path, estimator)
    loops = loops_of(tmp_path)
    assert len(result.trajectory) == FRAMES
    assert len(loops) == len(estimator.failed) >= 2
    assert not any(loop["accepted"] for loop in loops)
    assert all(str(error) in loop["reason"] for loop in loops)


def test_an_interrupted_run_with_failures_comes_out_the_same(tmp_path: Path, world: SimulatedWorld) -> None:
    error = EstimationError("the views do not overlap")
    run(world, tmp_path / "whole", FailingEstimator(world, coarse=error, loop=error))
    for stop_after in (7, 100):
        estimator = FailingEstimator(world, coarse=error, loop=error)
        estimator.fail_at = stop_after
        with contextlib.suppress(KeyboardInterrupt):
            run(world, tmp_path / "parts", estimator, resume=True)
    assert outputs_of(tmp_path / "parts") == outputs_of(tmp_path / "whole")


def test_memory_that_shrinks_shortens_chunks_and_bridges_alike(tmp_path: Path, world: SimulatedWorld) -> None:
    estimator = Device(world, holds=SIZE, until=60)
    run(world, tmp_path / "whole", estimator)
    lengths = Counter(len(chunk) for chunk in estimator.chunks)
    assert (max(lengths), estimator.chunks[-1][-1] > 60) == (SIZE, True)
    assert all(len(chunk) <= SIZE // 2 for chunk in estimator.chunks if chunk[-1] >= 60)
    manifest = manifest_of(tmp_path / "whole")
    assert manifest["loops"] >= 1
    assert any("ran out of memory" in line for line in manifest["warnings"])

    class Mortal(Device):
        def __init__(self, fail_at: int) -> None:
            super().__init__(world, holds=SIZE, until=60)
            self.fail_at = fail_at

    made: set[tuple[int, ...]] = set()
    for stop_after in (3, 3, 3, 4, 5, 100):
        again = Mortal(stop_after)
        with contextlib.suppress(KeyboardInterrupt):
            run(world, tmp_path / "parts", again, resume=True)
        made.update(again.chunks)
    assert made == set(estimator.chunks)
    assert outputs_of(tmp_path / "parts") == outputs_of(tmp_path / "whole")


# Places that look alike -----------------------------------------------------------------------------------


def test_loops_between_places_that_look_alike_are_rejected_with_reasons(
    tmp_path: Path, world: SimulatedWorld
) -> None:
    """Frames 60 to 85 look like 5 to 30, and the estimator takes them for the same place."""
    twins = {60 + k: 5 + k for k in range(26)}
    deceived, config = DeceivedEstimator(world), bridged(loop_budget=100)
    descriptor = FalseDescriptor(world, twins)
    fooled = run(world, tmp_path / "fooled", deceived, config, descriptor=descriptor)
    truthful = run(world, tmp_path / "truthful", DeceivedEstimator(world), config)
    assert deceived.deceived >= 2
    false = [loop for loop in loops_of(tmp_path / "fooled") if loop["later"] in twins]
    assert len(false) >= 2
    assert all(loop["reason"] for loop in false)
    assert not any(loop["accepted"] for loop in false)
    assert manifest_of(tmp_path / "fooled")["loops"] >= 1, "the true ones are closed"
    assert ate_m(fooled.trajectory, world) < 1.2 * ate_m(truthful.trajectory, world)


# Scale ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("coarse", [0, 8])
@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_a_scale_that_is_off_by_ten_before_the_loop_closes(
    tmp_path: Path, factor: float, coarse: int
) -> None:
    """Every submap shrinks or grows, and all in the same way: nothing tells before the return.

    In one lap of 354 m the chain misses by 35 m (RMSE); the closed map by 1.4 to 2.3 m (measured).
    """
    world = two_laps(390, lap_frames=300)
    config = load_config(None, {"chunk_size": 30, "coarse": coarse, "export": "poses,loops"})
    result = run(world, tmp_path, ShrinkingEstimator(world, factor ** (1 / 300)), config)
    loops = [loop for loop in loops_of(tmp_path) if loop["accepted"]]
    jumps = [loop["evidence"]["scale_jump"] for loop in loops]
    assert np.median(np.abs(np.log(jumps))) == pytest.approx(np.log(10), rel=0.1)
    assert sum(loop["used"] for loop in loops) >= 0.5 * len(loops) >= 4
    assert ate_m(result.trajectory, world) < 3.5
    steps = np.linalg.norm(np.diff(result.trajectory.world_from_cam[:, :3, 3], axis=0), axis=1)
    truth = np.linalg.norm(np.diff(world.world_from_cam[:, :3, 3], axis=0), axis=1)
    assert abs(np.log(np.median((steps / truth)[-60:]) / np.median((steps / truth)[:60]))) < np.log(1.5)


# What comes after -----------------------------------------------------------------------------------------


def test_export_writes_the_same_again(tmp_path: Path, unwritten: Path, world: SimulatedWorld) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unwritten, folder)
    run(world, folder, resume=True)
    before = outputs_of(folder)
    names = ("camera_poses.txt", "trajectory_tum.txt", "pcd/combined_pcd.ply", "loop_closures.json")
    for name in (*names, "trajectory.png", "cameras.json"):
        (folder / name).unlink()
    da3stream.export(folder, ("poses", "tum", "pcd", "loops", "trajectory", "cameras"))
    assert outputs_of(folder) == before


@pytest.mark.parametrize("keep", ["none", "full"])
def test_what_is_kept_does_not_change_the_outputs(
    tmp_path: Path,
    whole: tuple[Path, CountingEstimator, da3stream.Result],
    world: SimulatedWorld,
    keep: str,
) -> None:
    run(world, tmp_path, config=bridged(keep=keep))
    own = ("submaps", "frames", "full_depth", "descriptors", "place")
    outputs = {name: content for name, content in outputs_of(whole[0]).items() if not name.startswith(own)}
    kept = outputs_of(tmp_path)
    assert outputs == {name: kept[name] for name in outputs}
    assert (tmp_path / "submaps").exists() == (keep == "full")
    stored = len(list((tmp_path / "full_depth").iterdir())) if keep == "full" else None
    assert stored == (len(chunks_of(tmp_path)) if keep == "full" else None)


@pytest.mark.parametrize("scale_prior", [None, 0.05])
def test_metres_with_bridges(tmp_path: Path, world: SimulatedWorld, scale_prior: float | None) -> None:
    """Every chunk, bridges too, is in a unit that is off by up to 20 %; the typical one is right."""
    estimator = MetricEstimator(world, [1.2, 1.0, 1.0, 0.85, 1.0])
    result = run(world, tmp_path, estimator, config=bridged(scale_prior=scale_prior))
    manifest = manifest_of(tmp_path)
    assert manifest["is_metric"]
    assert min(manifest["coarse_chunks"], manifest["loops"]) >= 1
    assert length(result.trajectory.world_from_cam) == pytest.approx(length(world.world_from_cam), rel=0.02)


@pytest.mark.parametrize("size", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_the_two_places_of_a_loop_share_no_frame_however_short_chunks_are(
    tmp_path: Path, world: SimulatedWorld, size: int
) -> None:
    config = load_config(None, {"chunk_size": size, "loop_budget": 300, "export": "poses,loops"})
    da3stream.reconstruct(
        SimulatedSource(world, frames=110),
        tmp_path,
        config=config,
        estimator=CountingEstimator(world, level=0.5),
        descriptor=SimulatedDescriptor(world, scale_m=8.0),
    )
    loops = json.loads((tmp_path / "loop_closures.json").read_text())["loops"]
    assert len(loops) > 1
    assert all(loop["later"] - loop["earlier"] >= 8 for loop in loops)
