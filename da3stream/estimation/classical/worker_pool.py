"""Worker processes that share a list of jobs."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from da3stream.estimation.classical.wire import Message
from da3stream.estimation.classical.worker_process import WorkerProcess

WORKERS = 2
"""As many as there are mappers."""
TIME_LIMIT_S = 600.0
"""Far beyond any job that the counts allow; a job that reaches it is lost, and the result not repeatable."""


class WorkerPool:
    """Runs jobs in worker processes, a few at a time. Threads only wait for the processes."""

    def __init__(self, *, workers: int = WORKERS, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._workers = tuple(WorkerProcess(time_limit_s=time_limit_s) for _ in range(workers))

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the children that run now."""
        return tuple(worker.pid for worker in self._workers if worker.pid is not None)

    def ask(self, requests: Sequence[Message]) -> list[Message]:
        """Replies in the order of the requests; see `WorkerProcess.ask` for what a crash answers.

        Raises:
            ProcessLostError: a child was killed from outside. The other jobs that had begun are waited for.
        """
        idle: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
        for worker in self._workers:
            idle.put(worker)

        def run(request: Message) -> Message:
            worker = idle.get()
            try:
                return worker.ask(request)
            finally:
                idle.put(worker)

        with ThreadPoolExecutor(max_workers=len(self._workers)) as threads:
            return list(threads.map(run, requests))

    def close(self) -> None:
        """End all children. The pool can be used again afterwards."""
        for worker in self._workers:
            worker.close()
