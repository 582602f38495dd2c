"""How fast a model is on this machine, and how much memory it takes.

Every measurement has a process of its own, so that its peak of memory is its own too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import da3stream

_CHILD = "da3stream.estimation.da3.bench_child"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchCase:
    """What is measured: forward passes of one model over chunks of one shape."""

    model: str
    weights: str
    """A path, or `seeded:N`."""
    device: str
    """auto, cpu, cuda or cuda:N."""
    width_px: int
    height_px: int
    frames: int
    """Of a chunk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What came out."""

    hardware: str
    """Name of the GPU, or `cpu` and the number of threads."""
    torch: str
    """Version."""
    trunk_dtype: str
    """Type of the transformer's matrices."""
    seconds: float
    """One forward pass, the median of several."""
    frames_per_s: float
    peak_bytes: int
    """CPU: peak of the process's resident memory. GPU: peak of what torch had allocated."""
    reserved_bytes: int | None
    """GPU: peak of what torch had reserved, free blocks included. None on a CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchResult:
    """One line of the table."""

    case: BenchCase
    measured: Measurement | None
    failure: str | None
    """Why there is no measurement."""

    def to_dict(self) -> dict[str, object]:
        """JSON values, flat; `failure` or what was measured."""
        found = {"failure": self.failure} if self.measured is None else asdict(self.measured)
        return {**asdict(self.case), **found}


def measure(case: BenchCase) -> BenchResult:
    """Measure a case in a fresh process. What goes wrong there is a result too."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(case).items()]
    ended = subprocess.run(
        [sys.executable, "-m", _CHILD, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        # `-m` imports from the working directory first: that must be ours, and no folder of the user.
        cwd=Path(da3stream.__file__).resolve().parents[1],
    )
    if ended.returncode != 0:
        return BenchResult(case=case, measured=None, failure=_reason(ended))
    measured = Measurement(**json.loads(ended.stdout.splitlines()[-1]))
    return BenchResult(case=case, measured=measured, failure=None)


def _reason(ended: subprocess.CompletedProcess[str]) -> str:
    if ended.returncode < 0:
        return f"the process was killed by signal {-ended.returncode} (9: out of memory, most likely)"
    lines = ended.stderr.strip().splitlines()
    return lines[-1] if lines else f"the process ended with status {ended.returncode}"
