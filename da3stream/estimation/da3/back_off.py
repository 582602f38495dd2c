"""When the GPU's memory is full: the same frames again, the network's work cut smaller."""

from __future__ import annotations

from collections.abc import Callable

from da3stream.errors import DeviceMemoryError
from da3stream.transformer.back_off import CutNetwork, Result, halve_until_it_fits
from da3stream.transformer.execution import Execution


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

    def too_small(complaint: str) -> DeviceMemoryError:
        return DeviceMemoryError(
            "the GPU's memory is too small for so many frames at a time",
            got=f"{work}: {complaint}",
            expected="room for them when the network works in its smallest pieces",
            hint="Use a smaller --chunk-size or --resolution, or allow more memory with --vram.",
        )

    result, smaller = halve_until_it_fits(attempt, network, too_small)
    return result, () if smaller is None else (_warning(smaller),)


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
