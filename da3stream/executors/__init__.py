"""Where estimation runs: in a thread of this process, or on the machines of a Ray cluster."""

from da3stream.executors.base import Estimate, EstimationTask, Executor
from da3stream.executors.local import LocalExecutor

__all__ = ["Estimate", "EstimationTask", "Executor", "LocalExecutor"]
