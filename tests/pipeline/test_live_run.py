"""Runs over inputs that come only once: recorded before they are used, killed, resumed, stopped by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import da3stream
from da3stream import Config, Frame
from da3stream.cli.interrupting import interrupt_stops_capture
from da3stream.config import SourceConfig
from da3stream.errors import InputError, RunMismatchError
from da3stream.progress import Progress
from da3stream.source.live import LiveSource
from da3stream.source.live_address import Patience, live_address
from da3stream.store import open_existing, read_manifest
from da3stream.synthetic.capture import SimulatedSource, SimulatedWorld
from tests.source.clips import encode_video
from tests.source.rtsp_server import RtspCamera
from tests.source.test_decoder_process import has_died

from .doubles import FRAMES, CountingEstimator
from .test_resume import digests

SELECTION = SourceConfig(select="all", resolution=84)
PATIENCE = Patience(first_delay_s=0.05, longest_delay_s=0.1, give_up_s=0.5)


class OnceSource:
    """A simulated camera: it can be read once, and may break with an error."""

    def __init__(self, world: SimulatedWorld, *, frames: int = FRAMES, fails_at: int | None = None) -> None:
        self._inner, self._fails_at = SimulatedSource(world, frames=frames), fails_at
        self.given, self.is_capturing, self.input = 0, False, "rtsp://camera/stream"
        self._stopped = False

    @property
    def warnings(self) -> list[str]:
        return [f"{self.given} given"]

    def __iter__(self) -> Iterator[Frame]:
        assert self.given == 0, "captured again"
        self.is_capturing = True
        for frame in self._inner:
            if frame.index == self._fails_at:
                raise InputError("the camera fell down")
            if self._stopped:
                break
            self.given += 1
            yield frame
        self.is_capturing = False

    def stop(self) -> None:
        self._stopped = True

    def size_hint(self) -> int | None:
        return None

    def identity(self) -> str:
        return "live:once"


class Frames:
    """A source of given frames that can be read again."""

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def size_hint(self) -> int | None:
        return None

    def identity(self) -> str:
        return "live:frames"


def recorded_frames(run: Path) -> list[Frame]:
    opened = open_existing(run)
    try:
        numbers = range(len(opened.recording.batches))
        return [frame for number in numbers for frame in opened.recording.read(number)]
    finally:
        opened.close()


def test_the_run_sees_the_recorded_pixels_and_drops_them_when_finished(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    seen: list[np.ndarray] = []

    class Watching(CountingEstimator):
        def estimate(self, images: np.ndarray, **arguments: object) -> da3stream.Prediction:
            if not seen:
                stored = recorded_in_progress(tmp_path / "run")
                np.testing.assert_array_equal(images, stored[: len(images)])
            seen.append(images)
            return super().estimate(images, **arguments)  # type: ignore[arg-type]

    source = OnceSource(world)
    result = da3stream.reconstruct(source, tmp_path / "run", config=config, estimator=Watching(world))
    assert len(result.trajectory) == FRAMES
    assert seen
    assert f"{FRAMES} given" in result.warnings
    assert any("colmap/images are at processing resolution" in warning for warning in result.warnings)
    assert not (tmp_path / "run" / "recorded").exists()
    assert read_manifest(tmp_path / "run")["input"] == "rtsp://camera/stream"
    again = da3stream.reconstruct(
        source, tmp_path / "run", config=config, estimator=CountingEstimator(world), resume=True
    )
    assert len(again.trajectory) == FRAMES


def recorded_in_progress(run: Path) -> np.ndarray:
    """The recorded images of a run that this process has locked."""
    from da3stream.store.frame_file import decode_frames

    return np.concatenate([decode_frames(path.read_bytes()) for path in sorted(run.glob("recorded/*.zip"))])


@pytest.mark.parametrize("interrupted_at", [0, 2, 5])
def test_a_resumed_run_captures_nothing_and_equals_one_over_the_recorded_frames(
    tmp_path: Path, world: SimulatedWorld, config: Config, interrupted_at: int
) -> None:
    live, lines = tmp_path / "live", []
    first = OnceSource(world)
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            first, live, config=config, estimator=CountingEstimator(world, 1.0, fail_at=interrupted_at)
        )
    frames = recorded_frames(live)
    assert 0 < len(frames) < FRAMES
    da3stream.reconstruct(
        Frames(frames), tmp_path / "whole", config=config, estimator=CountingEstimator(world, 1.0)
    )

    def note(progress: Progress) -> None:
        lines.append(progress.message or "")

    second = OnceSource(world)
    result = da3stream.reconstruct(
        second, live, config=config, estimator=CountingEstimator(world, 1.0), resume=True, progress=note
    )
    assert second.given == 0
    assert digests(live) == digests(tmp_path / "whole")
    assert any(line.startswith("a live input cannot be rewound") for line in lines)
    assert any("the capture was interrupted" in warning for warning in result.warnings)


def test_a_camera_that_gives_nothing_leaves_nothing_behind(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    """So that the same command can be given again."""
    with pytest.raises(InputError, match="fell down"):
        da3stream.reconstruct(
            OnceSource(world, fails_at=0), tmp_path / "run", config=config, estimator=CountingEstimator(world)
        )
    assert not (tmp_path / "run").exists()


def test_what_came_before_a_failure_is_recorded(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    with pytest.raises(InputError, match="fell down"):
        da3stream.reconstruct(
            OnceSource(world, fails_at=45), tmp_path, config=config, estimator=CountingEstimator(world)
        )
    result = da3stream.reconstruct(
        OnceSource(world), tmp_path, config=config, estimator=CountingEstimator(world), resume=True
    )
    assert len(result.trajectory) == 45


def test_a_camera_that_fails_before_anything_is_recorded_is_captured_on_resume(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    with pytest.raises(InputError, match="fell down"):
        da3stream.reconstruct(
            OnceSource(world, fails_at=0), tmp_path, config=config, estimator=CountingEstimator(world)
        )
    result = da3stream.reconstruct(
        OnceSource(world, frames=20), tmp_path, config=config, estimator=CountingEstimator(world), resume=True
    )
    assert len(result.trajectory) == 20


def test_another_address_refuses(tmp_path: Path, world: SimulatedWorld, config: Config) -> None:
    with pytest.raises(KeyboardInterrupt):
        da3stream.reconstruct(
            OnceSource(world), tmp_path, config=config, estimator=CountingEstimator(world, fail_at=1)
        )
    with pytest.raises(RunMismatchError, match="the input"):
        da3stream.reconstruct(
            "rtsp://other/", tmp_path, config=config, estimator=CountingEstimator(world), resume=True
        )


def test_ctrl_c_ends_the_capture_and_the_run_is_finished(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    clip = encode_video(tmp_path / "clip.ts", frames=60)
    lines: list[str] = []

    def interrupt(progress: Progress) -> None:
        lines.append(progress.message or "")
        if progress.stage == "estimation" and progress.chunk == 1:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with RtspCamera([clip], clip_s=6) as camera:
            source = live(camera.url)
            with interrupt_stops_capture(source, lambda progress: lines.append(progress.message or "")):
                result = da3stream.reconstruct(
                    source,
                    tmp_path / "run",
                    config=config,
                    estimator=CountingEstimator(world),
                    progress=interrupt,
                )
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert 16 <= len(result.trajectory) < 60
    assert "capture stopped, finishing; Ctrl-C again to interrupt" in lines
    assert (tmp_path / "run" / "camera_poses.txt").exists()


def test_ctrl_c_interrupts_when_nothing_is_captured(world: SimulatedWorld) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    source = OnceSource(world)
    try:
        with interrupt_stops_capture(source, print), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        source.is_capturing = True
        with interrupt_stops_capture(source, lambda progress: None):
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def live(url: str) -> LiveSource:
    address = live_address(url)
    assert address is not None
    return LiveSource(address, SELECTION, PATIENCE)


SCRIPT = """
    import os, signal, sys
    import da3stream
    from da3stream import load_config
    from da3stream.source.decoder_process import DecoderProcess
    from da3stream.synthetic.capture import SimulatedWorld
    from da3stream.synthetic.paths import street_laps
    from tests.pipeline.doubles import FRAMES, CountingEstimator

    class Killing(CountingEstimator):
        def estimate(self, images, **arguments):
            if len(self.chunks) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().estimate(images, **arguments)

    enter = DecoderProcess.__enter__
    def tell(process):
        print(process.pid, flush=True)
        return enter(process)
    DecoderProcess.__enter__ = tell
    world = SimulatedWorld(street_laps(FRAMES), seed=7, size=(14, 42), hfov_deg=82)
    options = {"colmap_points": "dense", "chunk_size": 16, "overlap": 8, "select": "all", "resolution": 84}
    config = load_config(None, options)
    da3stream.reconstruct(sys.argv[1], sys.argv[2], config=config, estimator=Killing(world, 1.0))
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_a_capture(tmp_path: Path, world: SimulatedWorld) -> None:
    """The result is that of an uninterrupted run over what was recorded, and no process is left."""
    clip = encode_video(tmp_path / "clip.ts", frames=60)
    run = tmp_path / "run"
    with RtspCamera([clip], clip_s=4) as camera:
        killed = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), camera.url, str(run)],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            timeout=60,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert has_died(int(killed.stdout))
        url = camera.url
    frames = recorded_frames(run)
    assert 30 < len(frames) < 60
    overrides = {"colmap_points": "dense", "chunk_size": 16, "overlap": 8, "select": "all", "resolution": 84}
    config = da3stream.load_config(None, overrides)
    result = da3stream.reconstruct(
        url, run, config=config, estimator=CountingEstimator(world, 1.0), resume=True
    )
    assert len(result.trajectory) == len(frames)
    da3stream.reconstruct(
        Frames(frames), tmp_path / "whole", config=config, estimator=CountingEstimator(world, 1.0)
    )
    assert digests(run) == digests(tmp_path / "whole")


def test_a_stream_that_is_left_early_ends_the_capture_and_can_be_finished(
    tmp_path: Path, world: SimulatedWorld, config: Config
) -> None:
    clip = encode_video(tmp_path / "clip.ts", frames=60)
    run = tmp_path / "run"
    with RtspCamera([clip], clip_s=5) as camera:
        source = live(camera.url)
        updates = da3stream.stream(source, run, config=config, estimator=CountingEstimator(world, 1.0))
        first = next(updates)
        assert source.is_capturing
        updates.close()  # type: ignore[attr-defined]
        assert not source.is_capturing
    assert len(first.frames) == 16
    recorded = len(recorded_frames(run))
    assert 16 <= recorded < 55
    source = live(camera.url)
    rest = list(
        da3stream.stream(source, run, config=config, estimator=CountingEstimator(world, 1.0), resume=True)
    )
    assert sum(len(update.frames) for update in rest) == recorded
