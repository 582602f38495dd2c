"""A process that suffers.

`python -m tests.faults.victim kill RUN N` kills itself at the N-th call of the store,
`python -m tests.faults.victim limit RUN EXPORT BYTES ...` may write no file longer than so many bytes.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
from pathlib import Path

from da3stream.errors import StoreError

from .capture import capture, outputs_of, reconstruct
from .doubles import DyingFileSystem, WatchedFileSystem


def limited(folder: Path, export: str, limits: list[int]) -> dict[int, str]:
    """By limit: the error of a run under it, or what is wrong with the run that was resumed without."""
    world = capture()
    reconstruct(world, folder / "whole", WatchedFileSystem(), export=export)
    expected = outputs_of(folder / "whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    said = {}
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            reconstruct(world, folder / "run", WatchedFileSystem(), export=export)
            said[limit] = "no error"
        except StoreError as error:
            said[limit] = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        reconstruct(world, folder / "run", WatchedFileSystem(), export=export)
        if outputs_of(folder / "run") != expected:
            said[limit] = "came out different"
        shutil.rmtree(folder / "run")
    return said


if __name__ == "__main__":
    action, run, *numbers = sys.argv[1:]
    if action == "kill":
        reconstruct(capture(), Path(run), DyingFileSystem(int(numbers[0]), for_real=True))
    else:
        sys.stdout.write(json.dumps(limited(Path(run), numbers[0], [int(number) for number in numbers[1:]])))
