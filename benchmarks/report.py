"""How long `da3stream report` takes, how much memory, and how large its page is.

    python -m benchmarks.report RUN... -o benchmarks/results/report.json

Each run's page is written several times, by a process of its own that loads Python and the libraries anew.
RUN/report.html is replaced: measure a copy of a run that is to stay as it is. The best of the rounds by
`seconds` is kept, with the load of the machine as it began; `peak_mb` is the largest resident memory of the
process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.metadata import describe_environment
from da3stream.store import read_manifest
from da3stream.store.run import REPORT


def measure(run: Path) -> dict[str, Any]:
    """One round."""
    load, began = os.getloadavg()[0], time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "da3stream", "report", str(run)], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"`da3stream report {run}` failed"
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss * 1024 / 1e6, 1),
        "page_mb": round((run / REPORT).stat().st_size / 1e6, 3),
        "load": round(load, 1),
    }


def main() -> None:
    """Measure all runs, and write what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="JSON")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found = []
    for run in arguments.runs:
        frames = read_manifest(run)["frames"]
        best = min((measure(run) for _ in range(arguments.rounds)), key=lambda result: result["seconds"])
        found.append({"run": run.name, "frames": frames, **best})
        print(json.dumps(found[-1]), flush=True)
    environment = describe_environment({"rounds": arguments.rounds})
    arguments.output.write_text(json.dumps({**environment, "runs": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
