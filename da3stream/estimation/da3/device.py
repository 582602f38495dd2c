"""Where a network runs. torch is imported only when a driver says that there may be a GPU."""

from __future__ import annotations

import ctypes
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
