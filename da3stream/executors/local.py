"""Estimation in a thread of this process: one model, one chunk at a time."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType

from da3stream.estimation.base import GeometryEstimator
from da3stream.executors.base import Estimate, EstimationTask, run_task


class LocalExecutor:
    """Runs tasks one after the other, in the order in which they were handed over.

    The estimator is called from one thread only. Leaving waits for a task that runs, so that nobody else uses
    the estimator meanwhile; but not after Ctrl-C: then the thread ends with its task or with the process.
    """

    capacity = 1

    def __init__(self, estimator: GeometryEstimator) -> None:
        self._estimator = estimator
        self._tasks: SimpleQueue[tuple[EstimationTask, Future[Estimate]] | None] = SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="estimation", daemon=True)
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

    def _work(self) -> None:
        while (job := self._tasks.get()) is not None:
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
