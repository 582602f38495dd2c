"""When the GPU's memory is full: the same work again in smaller pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from da3stream.transformer.execution import Execution

LIBRARY_COMPLAINTS = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
"""What cuBLAS, cuDNN and the driver say in a plain RuntimeError. Their memory is not torch's."""
SENTENCES = 3
"""Of torch's message: what it wanted, what the card has. More follows, about torch's own settings."""

Result = TypeVar("Result")


class CutNetwork(Protocol):
    """A network whose forward pass can be cut into smaller pieces."""

    execution: Execution


def halve_until_it_fits(
    attempt: Callable[[], Result], network: CutNetwork, too_small: Callable[[str], Exception]
) -> tuple[Result, Execution | None]:
    """Try until it fits: each time the memory is full, `network.execution` is halved, and stays so.

    Args:
        attempt: the work; it can be done again after it has failed half-way.
        network: what does it.
        too_small: makes the error that is raised when not even the smallest pieces fit, of what torch said.

    Returns:
        The result of the first attempt that fits, and the pieces if they had to be made smaller for it.
    """
    smaller: Execution | None = None
    while True:
        try:
            return attempt(), smaller
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            complaint = ". ".join(str(error).split(". ")[:SENTENCES])
        # Here the error is gone, and with it its traceback, which held the tensors of the attempt.
        torch.cuda.empty_cache()  # does nothing where there is no GPU
        smaller = network.execution.halved()
        if smaller is None:
            raise too_small(complaint)
        network.execution = smaller


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch, or a library that it calls, got no memory of the GPU."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(complaint in str(error) for complaint in LIBRARY_COMPLAINTS)
