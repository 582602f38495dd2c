"""Estimation in a thread of this process: one model, one chunk at a time."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType

from da3stream.estimation.base import GeometryEstimator
from da3stream.executors.base import Estimate, EstimationTask, run_task

THREAD_NAME = "estimation"
PATIENCE_S = 0.5
"""How often an idle thread looks whether the process wants to end."""


class LocalExecutor:
    """Runs tasks one after the other, in the order in which they were handed over.

    The estimator is called from one thread only. Leaving waits for a task that runs, so that nobody else uses
    the estimator meanwhile; but not after Ctrl-C: then the end of the process waits for it.
    """

    capacity = 1

    def __init__(self, estimator: GeometryEstimator) -> None:
        self._estimator = estimator
        self._tasks: SimpleQueue[tuple[EstimationTask, Future[Estimate]] | None] = SimpleQueue()
        self._is_closed = False
        self._maker = threading.current_thread()
        # No daemon: Python would kill it inside native code when the process ends, which aborts the process.
        self._thread = threading.Thread(target=self._work, name=THREAD_NAME)
        self._thread.start()

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        self._tasks.put(None)
        if not isinstance(error, KeyboardInterrupt):
            self._thread.join()

    def submit(self, task: EstimationTask) -> Future[Estimate]:
        """See `Executor`."""
        future: Future[Estimate] = Future()
        self._tasks.put((task, future))
        return future

    def _next(self) -> tuple[EstimationTask, Future[Estimate]] | None:
        """The next job. None: it was left, or those who could leave it have ended without doing so."""
        while self._maker.is_alive() or threading.main_thread().is_alive():
            with suppress(Empty):
                return self._tasks.get(timeout=PATIENCE_S)
        return None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            task, future = job
            if self._is_closed or not future.set_running_or_notify_cancel():
                future.cancel()
            else:
                self._run(task, future)
            del job, task, future  # or the last images would stay alive while this thread waits

    def _run(self, task: EstimationTask, future: Future[Estimate]) -> None:
        try:
            estimate = run_task(self._estimator, task)
        except BaseException as error:  # raised again where the result is taken
            future.set_exception(error)
        else:
            future.set_result(estimate)
