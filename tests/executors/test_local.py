"""The local executor: in order, in one thread, with the estimator's own errors."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from da3stream.errors import EstimationError
from da3stream.executors import EstimationTask, LocalExecutor
from da3stream.scene import Prediction


class Recording:
    """Notes the thread and the frames of every call; frame 13 is too much for it."""

    name = "recording"
    is_metric = False

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.frames: list[int] = []
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.gate.set()

    def estimate(self, images: Any, *, indices: Any, known_cameras: Any = None) -> Prediction:
        self.threads.append(threading.current_thread())
        self.frames.append(int(indices[0]))
        self.begun.set()
        assert self.gate.wait(60)
        if indices[0] == 13:
            raise EstimationError("unlucky")
        count = len(indices) + (indices[0] == 14)
        return Prediction(
            depth=np.full((count, 2, 3), indices[0] + 1, np.float32),
            confidence=np.ones((count, 2, 3), np.float32),
            cam_from_submap=np.repeat(np.eye(3, 4)[None], count, axis=0),
            intrinsics=np.repeat(np.eye(3)[None], count, axis=0),
            is_metric=False,
        )


def task(frame: int) -> EstimationTask:
    return EstimationTask(
        images=np.zeros((1, 2, 3, 3), np.uint8), indices=np.array([frame]), known_cameras=None
    )


def test_tasks_run_in_order_and_in_one_thread() -> None:
    estimator = Recording()
    with LocalExecutor(estimator) as executor:
        futures = [executor.submit(task(frame)) for frame in range(5)]
        assert [future.result(60).prediction.depth[0, 0, 0] for future in futures] == [1, 2, 3, 4, 5]
    assert estimator.frames == [0, 1, 2, 3, 4]
    assert len(set(estimator.threads)) == 1
    assert estimator.threads[0] is not threading.current_thread()
    assert futures[0].result().seconds >= 0
    assert futures[0].result().execution is None


def test_errors_come_out_of_the_future_and_end_nothing() -> None:
    with LocalExecutor(Recording()) as executor:
        failed, broken, fine = (executor.submit(task(frame)) for frame in (13, 14, 15))
        with pytest.raises(EstimationError, match="unlucky"):
            failed.result(60)
        with pytest.raises(EstimationError, match="2 depth maps for 1 frames"):
            broken.result(60)
        assert fine.result(60).prediction.depth[0, 0, 0] == 16


def test_cancelled_tasks_do_not_run() -> None:
    estimator = Recording()
    estimator.gate.clear()
    with LocalExecutor(estimator) as executor:
        futures = [executor.submit(task(frame)) for frame in range(3)]
        assert estimator.begun.wait(60)
        assert futures[1].cancel()
        estimator.gate.set()
        futures[2].result(60)
    assert estimator.frames == [0, 2]


def test_leaving_drops_what_has_not_begun_and_waits_for_what_has() -> None:
    estimator = Recording()
    estimator.gate.clear()
    with LocalExecutor(estimator) as executor:
        running, waiting = executor.submit(task(0)), executor.submit(task(1))
        assert estimator.begun.wait(60)
        threading.Timer(0.05, estimator.gate.set).start()
    assert running.done()
    assert waiting.cancelled()
    assert not estimator.threads[0].is_alive()


def interrupted(estimator: Recording, futures: list[Any]) -> None:
    with LocalExecutor(estimator) as executor:
        futures += [executor.submit(task(0)), executor.submit(task(1))]
        assert estimator.begun.wait(60)
        raise KeyboardInterrupt


def test_after_ctrl_c_nobody_waits() -> None:
    estimator = Recording()
    estimator.gate.clear()
    futures: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(estimator, futures)
    assert not futures[0].done()
    estimator.gate.set()
    estimator.threads[0].join(60)
    assert estimator.frames == [0]
    assert futures[1].cancelled()


ABANDONED = """
from da3stream.executors import LocalExecutor
from tests.executors.test_local import Recording, task
executor = LocalExecutor(Recording())
executor.submit(task(0)).result(60)
print("done")
"""


def run_script(script: str) -> subprocess.CompletedProcess[bytes]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, timeout=60, check=False
    )


def test_a_process_ends_that_has_forgotten_to_leave() -> None:
    """A generator of updates that nobody closes, at the end of a script."""
    done = run_script(ABANDONED)
    assert (done.returncode, done.stdout.decode().strip()) == (0, "done"), done.stderr


IN_A_THREAD = """
import threading, time
from da3stream.executors import LocalExecutor, local
from tests.executors.test_local import Recording, task

def work():
    with LocalExecutor(Recording()) as executor:
        while threading.main_thread().is_alive():
            time.sleep(0.01)
        time.sleep(4 * local.PATIENCE_S)
        executor.submit(task(0)).result(30)
    print("done")

local.PATIENCE_S = 0.05
threading.Thread(target=work).start()
"""


def test_it_works_on_for_a_thread_that_outlives_the_main_one() -> None:
    done = run_script(IN_A_THREAD)
    assert (done.returncode, done.stdout.decode().strip()) == (0, "done"), done.stderr
