"""Where estimation runs: in a thread of this process, or on the machines of a Ray cluster."""

from da3stream.executors.actor import ModelRecipe
from da3stream.executors.base import Estimate, EstimationTask, Executor
from da3stream.executors.local import LocalExecutor
from da3stream.executors.ray import RayExecutor

__all__ = ["Estimate", "EstimationTask", "Executor", "LocalExecutor", "ModelRecipe", "RayExecutor"]
