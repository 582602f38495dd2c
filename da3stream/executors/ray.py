"""Estimation on the machines of a Ray cluster: one model for each GPU, chunks go to whichever is free.

Chunks are independent until they are aligned, so it does not matter where and in which order they are
estimated: `ChunksAhead` hands the results on in the chunks' order.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from types import TracebackType

from da3stream.errors import RESUME, ProcessLostError, WeightsError
from da3stream.estimation.base import DevicePlan, GeometryEstimator
from da3stream.executors.actor import Description, ModelRecipe
from da3stream.executors.base import Estimate, EstimationTask
from da3stream.executors.cluster import Actor, ActorLostError, Cluster
from da3stream.executors.remote import RemoteEstimator

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""A chunk whose actor was lost so often is what loses them."""
PLACEMENT_S = 60.0
"""How long the cluster may take to begin an actor: for the process, and for a GPU to become free."""


@dataclass(slots=True, eq=False)
class _Job:
    """A chunk to be estimated."""

    task: EstimationTask
    execution: Mapping[str, int] | None
    future: Future[Estimate] = field(default_factory=Future)
    losses: int = 0
    """Actors that were lost over it."""

    def drop(self) -> None:
        """Nobody will estimate it."""
        if not self.future.cancel():
            self.future.set_exception(ProcessLostError("the run was left while this chunk was estimated"))

    def __str__(self) -> str:
        return f"frames {self.task.indices.min()} to {self.task.indices.max()}"


class RayExecutor:
    """Sends every task to an actor that is free, one at a time to each. Implements `Executor`.

    An actor that is lost is replaced, and its task goes to whichever is free next. Leaving kills the actors;
    the cluster goes on. How the work is cut (`PlansMemory.execution`) is sent with every task; where one
    actor's memory was full once, all cut it smaller from then on.
    """

    def __init__(
        self,
        made: GeometryEstimator | ModelRecipe,
        *,
        use_gpus: bool = True,
        actors: int | None = None,
        notify: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Nothing is started yet: a run that is finished needs no cluster.

        Args:
            made: an estimator, which is sent as it is, or what makes one in each actor.
            use_gpus: every actor gets a GPU of its own, if the cluster has any.
            actors: how many; default: one for each GPU, else one for each machine.
            notify: takes lines for the user while it starts.
        """
        self._made, self._use_gpus, self._wanted, self._notify = made, use_gpus, actors, notify
        known = made.on_demand() if isinstance(made, ModelRecipe) else made
        self.estimator = RemoteEstimator(self, known.name, known.is_metric)
        """Stands for the estimator that all actors have."""
        self._cluster = Cluster()
        self._starting = threading.Lock()
        self._description: Description | None = None
        self._change = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._actors: dict[int, Actor] = {}
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._is_closed = False

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def capacity(self) -> int:
        """A task for each actor, and one that waits: no actor is idle while the next result is taken."""
        self.start()
        with self._change:
            return len(self._actors) + 1

    def start(self) -> Description:
        """Connect, start the actors and make their estimators, unless that is done. Describes the estimator.

        Raises:
            MissingDependencyError: ray is not installed.
            ConfigError: there is no cluster.
            ProcessLostError: no actor could be started.
            WeightsError: the actors' weights differ.
            Da3StreamError: what making the estimator raises.
        """
        with self._starting:
            if self._description is None:
                try:
                    self._description = self._started()
                except ActorLostError as error:
                    self.close()
                    raise _not_started(str(error)) from error
                except BaseException:
                    self.close()
                    raise
            return self._description

    def submit(self, task: EstimationTask) -> Future[Estimate]:
        """See `Executor`. The future also raises ProcessLostError: actors are lost time and again."""
        self.start()
        job = _Job(task, self.estimator.execution)
        with self._change:
            if self._failure is not None:
                job.future.set_exception(self._failure)
            elif self._is_closed:
                job.drop()
            else:
                self._jobs.append(job)
                self._change.notify()
        return job.future

    def plan(self, image_size: tuple[int, int], frames: int | None, beside_bytes: int) -> DevicePlan | None:
        """See `PlansMemory`: the plan of the actor that has the least memory.

        Raises:
            DeviceMemoryError: not even a few frames fit.
            ProcessLostError: an actor was lost meanwhile.
        """
        self.start()
        try:
            plans = [
                self._cluster.call(actor, "plan", image_size, frames, beside_bytes)
                for actor in list(self._actors.values())
            ]
        except ActorLostError as error:
            raise ProcessLostError(
                "an actor was lost while the memory was planned", got=str(error), hint="Run again."
            ) from error
        limits = [plan for plan in plans if plan is not None]
        return min(limits, key=lambda plan: (plan.frames, plan.budget_bytes), default=None)

    def close(self) -> None:
        """Kill the actors and disconnect. Doing it again changes nothing."""
        with self._change:
            if self._is_closed:
                return
            self._is_closed = True
            left, actors = list(self._jobs), list(self._actors.values())
            self._jobs.clear()
            self._change.notify_all()
        for job in left:
            job.drop()
        for actor in actors:
            self._cluster.kill(actor)
        for thread in self._threads:
            thread.join()
        self._cluster.close()

    # Starting -----------------------------------------------------------------------------------

    def _started(self) -> Description:
        workplaces = self._cluster.connect(use_gpus=self._use_gpus)
        wanted = self._wanted or workplaces
        self._actors = {slot: self._cluster.new_actor() for slot in range(wanted)}
        self._keep_those_that_begin()
        description = self._described()
        self.estimator.name, self.estimator.is_metric = description.name, description.is_metric
        self.estimator.execution = description.execution
        for slot in self._actors:
            thread = threading.Thread(target=self._work, args=(slot,), name=f"actor {slot}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return description

    def _keep_those_that_begin(self) -> None:
        begun = self._cluster.begun(list(self._actors.values()), PLACEMENT_S)
        if not begun:
            raise ActorLostError(
                f"{len(self._actors)} actors were asked for, none began in {PLACEMENT_S:.0f} s"
            )
        late = {slot: actor for slot, actor in self._actors.items() if actor not in begun}
        for slot, actor in late.items():
            self._cluster.kill(actor)
            del self._actors[slot]
        if late:
            wanted = len(begun) + len(late)
            self._notify(
                f"{len(begun)} of {wanted} actors have begun; the cluster has no room for the others"
            )

    def _described(self) -> Description:
        """Have all actors make their estimators, at the same time; they must be alike."""
        actors = list(self._actors.values())
        if isinstance(self._made, ModelRecipe) and self._made.model == "auto":
            model, notices = self._cluster.call(actors[0], "resolve", self._made)
            self._made = replace(self._made, model=model)
            for line in notices:
                self._notify(line)
        self._sent = self._cluster.put(self._made, self.estimator.name)
        first, *others = self._cluster.call_all(actors, "prepare", self._sent)
        for other in others:
            _check_alike(first, other)
        for line in first.notices:
            self._notify(line)
        return first

    # One thread for each actor ------------------------------------------------------------------

    def _work(self, slot: int) -> None:
        while (job := self._next()) is not None:
            try:
                estimate = self._cluster.call(self._actors[slot], "run", job.task, job.execution)
            except ActorLostError as error:
                self._put_back(job, error)
                if not self._replace(slot):
                    return
            except BaseException as error:  # raised again where the result is taken
                job.future.set_exception(error)
            else:
                self.estimator.adopt(job.execution, estimate.execution)
                job.future.set_result(estimate)
                del estimate
            del job  # or its images would stay alive while this thread waits

    def _next(self) -> _Job | None:
        """The next job that is still wanted. None: it is time to stop."""
        with self._change:
            while True:
                self._change.wait_for(lambda: self._jobs or self._is_closed)
                if self._is_closed:
                    return None
                job = self._jobs.popleft()
                if job.losses or job.future.set_running_or_notify_cancel():
                    return job

    def _put_back(self, job: _Job, error: ActorLostError) -> None:
        """Have a job done once more, before all others, or give it up."""
        job.losses += 1
        with self._change:
            if self._is_closed:
                return job.drop()
            if job.losses < ATTEMPTS:
                logger.warning("%s: the actor was lost, another one takes over (%s)", job, error)
                self._jobs.appendleft(job)
                return self._change.notify()
        return job.future.set_exception(
            ProcessLostError(
                f"{job} cost {ATTEMPTS} actors of the Ray cluster",
                got=str(error),
                hint=f"Is their memory full? What is stored is kept; go on with: {RESUME}",
            )
        )

    def _replace(self, slot: int) -> bool:
        """Put a new actor in the place of a lost one. False: there is none, and its thread ends."""
        try:
            self._cluster.kill(self._actors[slot])
            with self._change:
                if self._is_closed:
                    return False
                self._actors[slot] = actor = self._cluster.new_actor()
            if not self._cluster.begun([actor], PLACEMENT_S):
                raise ActorLostError(f"no other one began in {PLACEMENT_S:.0f} s")
            assert self._description is not None, "started"
            _check_alike(self._description, self._cluster.call(actor, "prepare", self._sent))
        except BaseException as error:  # raised again where results are taken, if this was the last actor
            self._give_up(slot, error)
            return False
        return True

    def _give_up(self, slot: int, error: BaseException) -> None:
        """Go on with one actor less; without any, everything that waits has failed."""
        with self._change:
            lost = self._actors.pop(slot)
            if self._is_closed:
                return
            logger.warning("an actor could not be replaced, %d are left (%s)", len(self._actors), error)
            if self._actors:
                return
            self._failure = _not_started(str(error)) if isinstance(error, ActorLostError) else error
            left = list(self._jobs)
            self._jobs.clear()
        self._cluster.kill(lost)
        for job in left:
            if job.losses or job.future.set_running_or_notify_cancel():
                job.future.set_exception(self._failure)


def _check_alike(first: Description, other: Description) -> None:
    if (first.name, first.weights) != (other.name, other.weights):
        raise WeightsError(
            "the machines of the Ray cluster have different weights",
            got=f"{other.name} {other.weights}",
            expected=f"{first.name} {first.weights}",
            hint="`da3stream weights fetch` on each, or --weights with a path that all of them see.",
        )


def _not_started(reason: str) -> ProcessLostError:
    return ProcessLostError(
        "no actor could be started on the Ray cluster",
        got=reason,
        hint="`ray status` tells what is free; every machine needs the same da3stream and Ray.",
    )
