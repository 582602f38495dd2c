"""The process that measures one case: options in, one line of JSON out."""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from da3stream.errors import Da3StreamError
from da3stream.estimation.da3.device import choose_device
from da3stream.estimation.da3.loading import load_network
from da3stream.transformer.execution import trunk_dtype_for

TIMED_PASSES = 3
_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")


def main() -> None:
    """Measure, print, and exit with status 1 and one line if that is not possible."""
    parser = argparse.ArgumentParser()
    for name in ("model", "weights", "device"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("width-px", "height-px", "frames"):
        parser.add_argument(f"--{name}", required=True, type=int)
    case = parser.parse_args()
    try:
        measured = measure(
            case.model, case.weights, case.device, (case.frames, case.height_px, case.width_px)
        )
    except Da3StreamError as error:
        sys.exit(str(error))
    except torch.OutOfMemoryError:
        sys.exit("out of memory")
    sys.stdout.write(json.dumps(measured) + "\n")


def measure(model: str, weights: str, device_name: str, shape: tuple[int, int, int]) -> dict[str, object]:
    """The fields of `bench.Measurement`, for chunks of `shape` (frames, height, width).

    Neither rays nor Gaussians are computed. What loading the weights takes does not count where the system
    lets a process forget its peak (Linux, mostly).
    """
    device = choose_device(device_name)
    network = load_network(
        model, weights=weights, device=device, with_rays=False, with_gaussians=False, notify=lambda _: None
    )
    frames, height, width = shape
    images = torch.randn((1, frames, 3, height, width), generator=torch.Generator().manual_seed(0)).to(device)
    _forget_peak(device)
    seconds = _seconds(lambda: network(images), device)
    return {
        "hardware": _described(device),
        "torch": torch.__version__,
        "trunk_dtype": str(trunk_dtype_for(device)).removeprefix("torch."),
        "seconds": seconds,
        "frames_per_s": frames / seconds,
        **_peak(device),
    }


@torch.inference_mode()
def _seconds(forward: Callable[[], object], device: torch.device) -> float:
    """Median of several passes, after one that warms up."""
    forward()
    seconds = []
    for _ in range(TIMED_PASSES):
        _wait_for(device)
        began = time.perf_counter()
        forward()
        _wait_for(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # another system: the peak then includes loading
        _RESET_PEAK.write_text("5")


def _peak(device: torch.device) -> dict[str, int | None]:
    if device.type == "cuda":
        return {
            "peak_bytes": torch.cuda.max_memory_allocated(device),
            "reserved_bytes": torch.cuda.max_memory_reserved(device),
        }
    return {"peak_bytes": peak_resident_bytes(), "reserved_bytes": None}


def peak_resident_bytes() -> int:
    """Of this program. Linux's ru_maxrss would also count the program that started it."""
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _described(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
