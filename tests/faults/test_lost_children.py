"""Children that are killed and memory that runs out: one error, and resume as if it had not happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import da3stream
from da3stream import Config, Prediction, load_config
from da3stream.cli import main
from da3stream.errors import DeviceMemoryError, ProcessLostError
from da3stream.estimation.classical.estimator import ClassicalEstimator
from da3stream.estimation.classical.worker_process import WorkerProcess
from da3stream.source import VideoSource
from da3stream.synthetic.capture import SimulatedDescriptor, SimulatedEstimator, SimulatedSource
from da3stream.synthetic.demo_video import demo_capture
from tests.pipeline.revisits import bridged, is_coarse, is_loop, outputs_of, two_laps
from tests.source.clips import encode_video

from .media_corruption import children

FRAMES = 130
WORLD = two_laps(FRAMES)


class FaultyEstimator(SimulatedEstimator):
    """Raises `faults[k]` at its k-th call, of those for chunks of a kind."""

    def __init__(self, faults: dict[int, BaseException] | None = None, kind: str = "any") -> None:
        super().__init__(WORLD, seed=3)
        self.faults, self.kind = faults or {}, kind
        self.calls = 0
        self.lengths: list[int] = []

    def estimate(self, images: Any, *, indices: Any, known_cameras: Any = None) -> Prediction:
        kinds = {"any", "coarse" if is_coarse(indices) else "loop" if is_loop(indices) else "fine"}
        if self.kind in kinds:
            self.calls += 1
            if (fault := self.faults.get(self.calls - 1)) is not None:
                raise fault
        self.lengths.append(len(indices))
        return super().estimate(images, indices=indices, known_cameras=known_cameras)


def run(output: Path, estimator: Any, config: Config | None = None, **options: Any) -> da3stream.Result:
    options = {"source": SimulatedSource(WORLD), "descriptor": SimulatedDescriptor(WORLD), **options}
    return da3stream.reconstruct(
        options.pop("source"), output, config=config or bridged(), estimator=estimator, **options
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run(folder, FaultyEstimator())
    return outputs_of(folder)


PLAIN = {"colmap_points": "dense"}
"""COLMAP's matches take most of the time, and nothing here is about them."""

# The estimator ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fine", "coarse", "loop"])
@pytest.mark.parametrize("fault", [ProcessLostError("a worker was killed with SIGKILL"), MemoryError()])
def test_what_is_lost_from_outside_ends_the_run_and_leaves_nothing_out(
    tmp_path: Path, undisturbed: dict[str, bytes], kind: str, fault: BaseException
) -> None:
    """A bridge that cannot be estimated is rejected for good, so this must not pass for that."""
    estimator = FaultyEstimator({1 if kind == "fine" else 0: fault}, kind)
    with pytest.raises(type(fault)):
        run(tmp_path, estimator)
    run(tmp_path, FaultyEstimator(), resume=True)
    assert outputs_of(tmp_path) == undisturbed


@pytest.mark.parametrize("full_at", [0, 2, 5])
def test_interrupted_right_after_the_chunks_became_shorter(tmp_path: Path, full_at: int) -> None:
    config = load_config(None, {"chunk_size": 24, "coarse": 0, "loop": False, **PLAIN})
    full = DeviceMemoryError("the memory of the GPU is full")
    run(tmp_path / "whole", FaultyEstimator({full_at: full}), config)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", FaultyEstimator({full_at: full, full_at + 1: KeyboardInterrupt()}), config)
    resumed = FaultyEstimator()
    result = run(tmp_path / "cut", resumed, config, resume=True)
    assert max(resumed.lengths) == 12
    assert len(result.trajectory) == FRAMES
    assert outputs_of(tmp_path / "cut") == outputs_of(tmp_path / "whole")


def test_the_command_line_says_in_one_line_that_memory_ran_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("da3stream.opening.open_source", full)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(tmp_path), "-o", str(tmp_path / "run"), "--model", "classical"])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: memory ran out")


# The decoder ------------------------------------------------------------------------------------------------


VIDEO = {"chunk_size": 16, "loop": False, "select": "all", "resolution": 126, **PLAIN}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So large that its decoder is at work until the end."""
    return encode_video(tmp_path_factory.mktemp("video") / "long.mp4", frames=70, size=(640, 480))


@pytest.fixture(scope="module")
def undisturbed_video(tmp_path_factory: pytest.TempPathFactory, video: Path) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed_video") / "run"
    run(folder, FaultyEstimator(), load_config(None, VIDEO), source=video)
    return outputs_of(folder)


@pytest.mark.parametrize("frames_before", [0, 40])
def test_a_run_whose_decoder_is_killed_is_resumed_to_the_same_result(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    video: Path,
    undisturbed_video: dict[str, bytes],
    frames_before: int,
) -> None:
    config = load_config(None, VIDEO)
    before, frames = children(), VideoSource.__iter__

    def killed(source: VideoSource) -> Any:
        for frame in frames(source):
            if frame.index == frames_before:
                (decoder,) = children() - before
                os.kill(decoder, signal.SIGKILL)
            yield frame

    with monkeypatch.context() as patch:
        patch.setattr(VideoSource, "__iter__", killed)
        with pytest.raises(ProcessLostError, match="killed with SIGKILL"):
            run(tmp_path / "cut", FaultyEstimator(), config, source=video)
    assert children() == before
    run(tmp_path / "cut", FaultyEstimator(), config, source=video, resume=True)
    assert outputs_of(tmp_path / "cut") == undisturbed_video
    assert children() == before


# The classical estimator's workers --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """(N, H, W, 3) frames of the demo, small ones."""
    images = demo_capture().images()
    return np.stack([cv2.resize(next(images), (252, 168), interpolation=cv2.INTER_AREA) for _ in range(8)])


@pytest.fixture(scope="module")
def undisturbed_estimate(photos: np.ndarray) -> Prediction:
    with ClassicalEstimator() as estimator:
        return estimate(estimator, photos)


def estimate(estimator: ClassicalEstimator, photos: np.ndarray) -> Prediction:
    return estimator.estimate(photos, indices=np.arange(len(photos)))


class Assassin:
    """Sends a signal to the worker just before its k-th job of a kind."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, job: str, fatal: signal.Signals) -> None:
        self.victims: list[int] = []
        ask = WorkerProcess.ask

        def killing(worker: WorkerProcess, request: Any) -> Any:
            if request.fields["job"] == job and not self.victims and worker.pid is not None:
                self.victims.append(worker.pid)
                os.kill(worker.pid, fatal)
            return ask(worker, request)

        monkeypatch.setattr(WorkerProcess, "ask", killing)


@pytest.mark.parametrize(
    "job",
    [pytest.param("verify", marks=pytest.mark.slow), "map", pytest.param("adjust", marks=pytest.mark.slow)],
)
def test_a_killed_worker_is_one_error_and_the_chunk_can_be_made_again(
    photos: np.ndarray, undisturbed_estimate: Prediction, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    before = children()
    with ClassicalEstimator() as estimator:
        estimate(estimator, photos[:3])
        with monkeypatch.context() as patch:
            assassin = Assassin(patch, job, signal.SIGKILL)
            with pytest.raises(ProcessLostError, match=r"worker process .* was killed with SIGKILL"):
                estimate(estimator, photos)
            assert len(assassin.victims) == 1
        again = estimate(estimator, photos)
    np.testing.assert_array_equal(again.cam_from_submap, undisturbed_estimate.cam_from_submap)
    np.testing.assert_array_equal(again.depth, undisturbed_estimate.depth)
    assert again.warnings == undisturbed_estimate.warnings
    assert children() == before


def test_a_worker_that_crashes_loses_one_mapper_with_a_warning(
    photos: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    with ClassicalEstimator() as estimator:
        estimate(estimator, photos[:3])
        with monkeypatch.context() as patch:
            Assassin(patch, "map", signal.SIGSEGV)
            prediction = estimate(estimator, photos)
    assert any("mapper was lost: its process crashed with SIGSEGV" in line for line in prediction.warnings)
    assert children() == before


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_is_resumed_to_the_same_result(
    tmp_path: Path, photos: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, image in enumerate(photos):
        cv2.imwrite(str(folder / f"{index:03d}.png"), image[..., ::-1])
    config = load_config(None, {"model": "classical", "chunk_size": 4, "loop": False, "coarse": 0, **PLAIN})
    da3stream.reconstruct(folder, tmp_path / "whole", config=config)
    before, jobs = children(), 0
    ask = WorkerProcess.ask

    def killing(worker: WorkerProcess, request: Any) -> Any:
        nonlocal jobs
        jobs += request.fields["job"] == "map"
        if jobs == 6 and worker.pid is not None:
            os.kill(worker.pid, signal.SIGKILL)
        return ask(worker, request)

    with monkeypatch.context() as patch:
        patch.setattr(WorkerProcess, "ask", killing)
        with pytest.raises(ProcessLostError, match=rf"da3stream resume {tmp_path}/cut"):
            da3stream.reconstruct(folder, tmp_path / "cut", config=config)
    assert children() == before
    da3stream.reconstruct(folder, tmp_path / "cut", config=config, resume=True)
    assert outputs_of(tmp_path / "cut") == outputs_of(tmp_path / "whole")


# The worker of colmap/ --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["50/54 images matched", "triangulating"])
def test_an_export_whose_colmap_worker_is_killed_is_one_error_and_can_be_repeated(
    tmp_path: Path, moment: str
) -> None:
    folder = tmp_path / "run"
    config = load_config(
        None, {"chunk_size": 24, "coarse": 0, "loop": False, "export": "tum", "place": "none"}
    )
    run(folder, FaultyEstimator(), config, source=SimulatedSource(WORLD, frames=54))
    da3stream.export(folder, ("colmap",))
    undisturbed, before = outputs_of(folder), children()
    victims: list[int] = []

    def kill(progress: da3stream.Progress) -> None:
        if moment in (progress.message or "") and not victims:
            (victim,) = children() - before
            victims.append(victim)
            os.kill(victim, signal.SIGKILL)

    with pytest.raises(ProcessLostError, match=r"COLMAP folder was killed with SIGKILL.*export again"):
        da3stream.export(folder, ("colmap",), progress=kill)
    assert len(victims) == 1
    assert children() == before
    assert outputs_of(folder) == undisturbed, "the folder of before is whole"
    assert not [path for path in (folder / "scratch").rglob("*") if path.is_file()]
    da3stream.export(folder, ("colmap",))
    assert outputs_of(folder) == undisturbed
