"""Whatever file of a run directory is damaged, resuming makes it anew, and everything comes out the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from da3stream.errors import DeviceMemoryError, StoreError
from da3stream.place import describing
from da3stream.synthetic.capture import SimulatedWorld
from tests.pipeline.revisits import FailingEstimator

from . import sweeps
from .capture import outputs_of, reconstruct
from .doubles import WatchedFileSystem

Whole = tuple[Path, dict[str, bytes]]


@pytest.fixture(scope="module")
def unwritten(tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld) -> Path:
    """A run without its outputs."""
    folder = tmp_path_factory.mktemp("unwritten") / "run"
    sweeps.until_the_outputs(world, folder)
    return folder


@pytest.mark.parametrize("damage", sweeps.DAMAGE)
@pytest.mark.parametrize("step", [15, pytest.param(2, marks=pytest.mark.slow)], ids=["some", "more"])
def test_a_damaged_file_is_made_anew(
    tmp_path: Path, world: SimulatedWorld, unwritten: Path, whole: Whole, damage: str, step: int
) -> None:
    for path in sweeps.own_files(unwritten)[::-1][::step]:
        problem = sweeps.damaged(world, unwritten, path, damage, whole[1], tmp_path / "run")
        assert problem is None, path


@pytest.mark.parametrize("damage", sweeps.DAMAGE)
def test_a_damaged_file_of_a_finished_run_is_made_anew(
    tmp_path: Path, world: SimulatedWorld, whole: Whole, damage: str
) -> None:
    for path in ("trajectory.safetensors", "submaps/000003.safetensors", "journal.jsonl", "run.json"):
        problem = sweeps.damaged(world, whole[0], path, damage, whole[1], tmp_path / "run")
        assert problem is None, path


@pytest.mark.parametrize("most", [4, pytest.param(50, marks=pytest.mark.slow)], ids=["some", "more"])
def test_a_journal_that_ends_anywhere(
    tmp_path: Path, world: SimulatedWorld, unwritten: Path, whole: Whole, most: int
) -> None:
    lengths = sweeps.journal_lengths(unwritten)
    for length in lengths[:: max(1, len(lengths) // most)]:
        problem = sweeps.cut_journal(world, unwritten, length, whole[1], tmp_path / "run")
        assert problem is None, length


def test_a_damaged_bridge_that_cannot_be_made_again(
    tmp_path: Path, world: SimulatedWorld, unwritten: Path, whole: Whole
) -> None:
    """All later chunks are numbered by it: the run goes back to before it, and says so once."""
    folder = tmp_path / "run"
    shutil.copytree(unwritten, folder)
    bridge = min(set(range(14)) - {int(path.stem) for path in (folder / "frames").iterdir()})
    (folder / f"submaps/{bridge:06d}.safetensors").unlink()
    full = DeviceMemoryError("the memory of the GPU is full")
    failing = FailingEstimator(world, coarse=full, loop=full)
    with pytest.raises(StoreError, match=rf"chunk {bridge} of .* damaged .*memory.*da3stream resume"):
        reconstruct(world, folder, WatchedFileSystem(), estimator=failing)
    reconstruct(world, folder, WatchedFileSystem())
    assert outputs_of(folder) == whole[1]


def test_a_damaged_bridge_that_is_refused_for_good(
    tmp_path: Path, world: SimulatedWorld, unwritten: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unwritten, folder)
    bridge = min(set(range(14)) - {int(path.stem) for path in (folder / "frames").iterdir()})
    (folder / f"submaps/{bridge:06d}.safetensors").unlink()
    full = DeviceMemoryError("the memory of the GPU is full")
    with pytest.raises(StoreError, match="da3stream resume"):
        reconstruct(
            world, folder, WatchedFileSystem(), estimator=FailingEstimator(world, coarse=full, loop=full)
        )
    result = reconstruct(
        world, folder, WatchedFileSystem(), estimator=FailingEstimator(world, coarse=full, loop=full)
    )
    assert len(result.trajectory) == 60


# What only some runs have ---------------------------------------------------------------------------------

RICH: dict[str, Any] = {"place": "vlad", "own_places": True, "keep": "full", "export": "poses,cameras,loops"}
"""A vocabulary, full depth, and the files made of it."""
RARE = (
    "place/vocabulary.safetensors",
    "descriptors/000000.safetensors",
    "descriptors/000003.safetensors",
    "full_depth/000000.safetensors",
    "full_depth/000003.safetensors",
    "trajectory.safetensors",
)


@pytest.fixture(scope="module", params=[30, 300], ids=["learnt on the way", "learnt at the end"])
def rich(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, world: SimulatedWorld
) -> Iterator[dict[str, Path]]:
    """A run with all of it, finished and before its outputs; of so many frames is the vocabulary learnt."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(describing, "TRAINING_FRAMES", request.param)
        folder = tmp_path_factory.mktemp("rich")
        reconstruct(world, folder / "finished", WatchedFileSystem(), **RICH)
        sweeps.until_the_outputs(world, folder / "unwritten", **RICH)
        yield {"finished": folder / "finished", "unwritten": folder / "unwritten"}


@pytest.mark.parametrize(
    "damage", ["lost", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cut", "flipped", "zeros"))]
)
@pytest.mark.parametrize("stage", ["finished", pytest.param("unwritten", marks=pytest.mark.slow)])
def test_a_damaged_rare_file_is_made_anew(
    tmp_path: Path, world: SimulatedWorld, rich: dict[str, Path], stage: str, damage: str
) -> None:
    expected = outputs_of(rich["finished"])
    assert set(RARE) <= set(expected)
    for path in RARE if stage == "finished" else RARE[:-1]:
        problem = sweeps.damaged(world, rich[stage], path, damage, expected, tmp_path / "run", **RICH)
        assert problem is None, path
