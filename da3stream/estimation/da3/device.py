"""Where a network runs. torch is imported only when a driver says that there may be a GPU."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

from da3stream.errors import ConfigError

if TYPE_CHECKING:
    import torch

_DRIVER = "libcuda.so.1"


def cuda_is_available() -> bool:
    """Whether there is a GPU that torch can use.

    Without a driver the answer costs nothing; importing torch costs two seconds and 200 MB, which a run
    with the classical estimator would have no use for.
    """
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def runs_on_gpu(name: str) -> bool:
    """Whether a network would run on a GPU under this `--device`."""
    return cuda_is_available() if name == "auto" else name != "cpu"


def memory_budget(device: torch.device, asked_bytes: int | None) -> int | None:
    """Bytes that the process may take on a device, its context included; None if nothing limits it.

    What was asked for; else what is free on the GPU now.
    """
    if asked_bytes is not None or device.type != "cuda":
        return asked_bytes
    import torch

    from da3stream.estimation.memory import CONTEXT_BYTES

    free, _ = torch.cuda.mem_get_info(device)  # this made the context, so it is not in what is free
    return free + CONTEXT_BYTES


def keep_within(device: torch.device, budget_bytes: int | None) -> None:
    """Make allocations beyond the budget fail as if the GPU were full."""
    if budget_bytes is None or device.type != "cuda":
        return
    import torch

    from da3stream.estimation.memory import CONTEXT_BYTES

    total = torch.cuda.get_device_properties(device).total_memory
    share = (budget_bytes - CONTEXT_BYTES) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, max(share, 0.0)), device)


def reserved_bytes() -> int | None:
    """The most that torch has reserved on GPUs in this process so far; None if it has used none."""
    if "torch" not in sys.modules:
        return None
    import torch

    return sum(map(torch.cuda.max_memory_reserved, range(torch.cuda.device_count()))) or None


def choose_device(name: str) -> torch.device:
    """The device of a `--device`: auto, cpu, cuda or cuda:N.

    Raises:
        ConfigError: a GPU is named that is not there.
    """
    import torch

    if not runs_on_gpu(name):
        return torch.device("cpu")
    device = torch.device("cuda" if name == "auto" else name)
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise ConfigError(
            f"there is no GPU for --device {name}",
            got=f"{count} GPUs that torch {torch.__version__} can use",
            hint="Use --device cpu, or install a torch that fits the GPU's driver",
        )
    return device
