"""An existing Ray cluster: actors on its machines, and calls to them. The only file that imports ray."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias

from da3stream.errors import ConfigError, EstimationError, MissingDependencyError
from da3stream.executors.actor import THREADS, EstimationActor

REACHABLE_S = 10.0
"""A cluster whose address does not answer for so long is not there."""

Actor: TypeAlias = Any
"""Ray's handle of an `EstimationActor`."""


class ActorLostError(Exception):
    """An actor has ended, or cannot be reached: killed, out of memory, or its machine is gone.

    Internal: it means that the call may be made once more, on another actor.
    """


class Cluster:
    """A connection to a cluster that goes on when the connection is closed."""

    _ray: ModuleType
    _needs: dict[str, Any]
    _is_ours = False

    def connect(self, *, use_gpus: bool) -> int:
        """Connect to the cluster that RAY_ADDRESS names, else to the one of this machine.

        In a process that has called `ray.init()` already, that connection is used, and left open.

        Args:
            use_gpus: every actor gets a GPU of its own, if the cluster has any.

        Returns:
            How many actors suit the cluster: one for each GPU, else one for each machine that has CPUs.

        Raises:
            MissingDependencyError: ray is not installed.
            ConfigError: there is no cluster, or it does not take us.
        """
        self._ray = _library()
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            _connect(self._ray)
        gpus = int(self._ray.cluster_resources().get("GPU", 0)) if use_gpus else 0
        self._needs = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        return gpus or sum(_takes_work(node) for node in self._ray.nodes())

    def new_actor(self) -> Actor:
        """Ask for an actor; it begins when there is room for it."""
        spread = self._ray.remote(EstimationActor).options(
            **self._needs, scheduling_strategy="SPREAD", max_restarts=0, max_task_retries=0
        )
        return spread.remote(os.environ.get(THREADS))

    def begun(self, actors: Sequence[Actor], timeout_s: float) -> list[Actor]:
        """Which of these have begun, after at most so many seconds.

        Raises:
            ActorLostError: one could not begin; da3stream is not installed on its machine, for example.
        """
        answers = {actor.is_there.remote(): actor for actor in actors}
        done, _ = self._ray.wait(list(answers), num_returns=len(answers), timeout=timeout_s)
        for answer in done:
            self._get(answer)
        return [answers[answer] for answer in done]

    def call(self, actor: Actor, method: str, *arguments: Any) -> Any:
        """Call a method and wait for what it returns. Raises what it raises, the same object's copy.

        Raises:
            ActorLostError: there is no answer.
        """
        try:
            answer = getattr(actor, method).remote(*arguments)
        except self._ray.exceptions.RayError as error:
            raise ActorLostError(_reason(error)) from error
        return self._get(answer)

    def call_all(self, actors: Sequence[Actor], method: str, *arguments: Any) -> list[Any]:
        """`call` to several actors at the same time."""
        answers = [getattr(actor, method).remote(*arguments) for actor in actors]
        return [self._get(answer) for answer in answers]

    def put(self, value: Any, name: str) -> Any:
        """Lay a value where all actors can take it; returns what stands for it in a `call`.

        Raises:
            EstimationError: it cannot be sent; the message calls it `name`.
        """
        try:
            return self._ray.put(value)
        except TypeError as error:
            raise EstimationError(
                f"the estimator {name} cannot be sent to other processes",
                got=str(error).strip().splitlines()[0],
                hint="Let it open files, locks and connections at its first estimate, or leave "
                "`executor: ray` out.",
            ) from error

    def kill(self, actor: Actor) -> None:
        """End an actor at once, if it is there."""
        self._ray.kill(actor)

    def close(self) -> None:
        """End the connection, unless somebody else has made it."""
        if self._is_ours:
            self._ray.shutdown()

    def _get(self, answer: Any) -> Any:
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            raise ActorLostError(_reason(error)) from error


def _library() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "`--executor ray` needs Ray", got=str(error), hint="pip install 'da3stream[ray]'"
        ) from None
    return ray


def _connect(ray: ModuleType) -> None:
    address = os.environ.get("RAY_ADDRESS") or "auto"
    try:
        if address not in ("auto", "local"):
            _check_reachable(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = "on this machine" if address == "auto" else f"at {address}"
        raise ConfigError(
            f"there is no Ray cluster {where} that takes this run",
            got=_reason(error),
            hint="Start one with `ray start --head`, or name one: RAY_ADDRESS=HOST:6379.",
        ) from error


def _check_reachable(address: str) -> None:
    """Raise OSError if nobody listens there: Ray would try for many minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), REACHABLE_S).close()


def _takes_work(node: dict[str, Any]) -> bool:
    return bool(node["Alive"]) and node["Resources"].get("CPU", 0) >= 1


def _reason(error: Exception) -> str:
    """The first line of what Ray says, which may be many."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
