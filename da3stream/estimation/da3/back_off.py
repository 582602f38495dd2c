"""When the GPU's memory is full: the same work again in smaller pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from da3stream.errors import DeviceMemoryError
from da3stream.transformer.execution import Execution

LIBRARY_COMPLAINTS = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
"""What cuBLAS, cuDNN and the driver say in a plain RuntimeError. Their memory is not torch's."""
SENTENCES = 3
"""Of torch's message: what it wanted, what the card has. More follows, about torch's own settings."""

Result = TypeVar("Result")


class CutNetwork(Protocol):
    """A network whose forward pass can be cut into smaller pieces."""

    execution: Execution


def with_back_off(
    attempt: Callable[[], Result], network: CutNetwork, *, work: str
) -> tuple[Result, tuple[str, ...]]:
    """Try until it fits: each time the memory is full, `network.execution` is halved, and stays so.

    Args:
        attempt: the work; it can be done again after it has failed half-way.
        network: what does it.
        work: what is attempted, for the error message ("60 frames of 504 x 280 pixels").

    Returns:
        The result of the first attempt that fits, and warnings: none, or one that names the new pieces.

    Raises:
        DeviceMemoryError: not even the smallest pieces fit.
    """
    warnings: tuple[str, ...] = ()
    while True:
        try:
            return attempt(), warnings
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            complaint = ". ".join(str(error).split(". ")[:SENTENCES])
        # Here the error is gone, and with it its traceback, which held the tensors of the attempt.
        torch.cuda.empty_cache()  # does nothing where there is no GPU
        smaller = network.execution.halved()
        if smaller is None:
            raise DeviceMemoryError(
                "the GPU's memory is too small for so many frames at a time",
                got=f"{work}: {complaint}",
                expected="room for them when the network works in its smallest pieces",
                hint="Use a smaller --chunk-size or --resolution, or allow more memory with --vram.",
            )
        network.execution = smaller
        warnings = (_warning(smaller),)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch, or a library that it calls, got no memory of the GPU."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(complaint in str(error) for complaint in LIBRARY_COMPLAINTS)


def _warning(execution: Execution) -> str:
    views = _counted(execution.views, "frame")
    head_views = _counted(execution.head_views, "frame")
    heads = _counted(execution.heads, "attention head")
    return (
        f"out of GPU memory: the network now works on {views} ({head_views} in its depth head) and "
        f"{heads} at a time"
    )


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
