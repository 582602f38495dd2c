"""Which place descriptor a run uses."""

from __future__ import annotations

from collections.abc import Callable

from da3stream.config import LoopConfig
from da3stream.place.salad.weights import find_salad


def resolve_place(config: LoopConfig, has_gpu: Callable[[], bool]) -> str:
    """Name of the descriptor that the configuration asks for: salad, vlad, backbone or none.

    Args:
        config: `auto` is looked up on this machine. Without `loop` and `memory_keyframes` nothing needs
            descriptors.
        has_gpu: whether networks run on a GPU; only asked where it matters. On a CPU, SALAD describes less
            than an image a second.
    """
    if not config.loop and not config.memory_keyframes:
        return "none"
    if config.place != "auto":
        return config.place
    return "salad" if find_salad() is not None and has_gpu() else "vlad"
