"""The table of faults: what was tried, survived and lost, from the exhaustive sweeps of tests/faults.

    python -m benchmarks.faults            writes benchmarks/results/faults.json

A trial is survived if the run ends as it should (killed, or one error that says what to do), and a new run on
what it left comes out like the uninterrupted one, byte by byte. `--every` says how many calls of the store
apart those are that fail; of real kills there are about 15.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.metadata import describe_environment
from tests.faults import sweeps
from tests.faults.capture import capture, outputs_of, reconstruct
from tests.faults.doubles import RecordingFileSystem, WatchedFileSystem

RESULT = Path(__file__).parent / "results" / "faults.json"
Trial = Callable[[], str | None]


def kinds_of_faults(folder: Path, every: int) -> Iterator[tuple[str, list[Trial]]]:
    """Kind of fault and its trials."""
    world = capture()
    reconstruct(world, folder / "whole", WatchedFileSystem())
    expected = outputs_of(folder / "whole")
    recording = RecordingFileSystem(folder / "recorded", seed=1)
    reconstruct(world, folder / "recorded", recording)
    recording.close()
    sweeps.until_the_outputs(world, folder / "unwritten")
    run, unwritten = folder / "run", folder / "unwritten"
    for kind, states in (
        ("killed at a call of the store (every distinct state)", recording.killed),
        ("power cut, nothing that was not synced survives", recording.cut_off),
        ("power cut, some of what was not synced survives", recording.cut_short),
    ):
        yield kind, [lambda s=state: sweeps.resumed(world, s, expected, run) for state in states.values()]
    calls = range(0, recording.calls, max(1, recording.calls // 15))
    yield (
        "SIGKILL to a process",
        [lambda n=at: sweeps.killed_for_real(world, n, expected, run) for at in calls],
    )
    for number, name in zip(sweeps.FAILURES, ("ENOSPC", "EIO"), strict=True):
        calls = range(number % every, recording.calls, every)
        trials = [lambda n=at, e=number: sweeps.failed(world, n, e, expected, run) for at in calls]
        yield f"a call fails with {name}", trials
    for damage in sweeps.DAMAGE:
        paths = sweeps.own_files(unwritten)
        trials = [lambda p=p, d=damage: sweeps.damaged(world, unwritten, p, d, expected, run) for p in paths]
        yield f"a file of the run is {damage}", trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=7, help="every how many calls one fails")
    every = parser.parse_args().every
    table, lost = [], []
    with tempfile.TemporaryDirectory() as folder:
        for kind, trials in kinds_of_faults(Path(folder), every):
            problems = [problem for trial in trials if (problem := trial()) is not None]
            row = {"fault": kind, "tried": len(trials), "survived": len(trials) - len(problems)}
            table.append(row | {"lost": len(problems)})
            lost += problems
            print(json.dumps(table[-1]), flush=True)
    RESULT.write_text(
        json.dumps({**describe_environment({"every": every}), "table": table, "problems": lost}, indent=2)
        + "\n"
    )


if __name__ == "__main__":
    main()
