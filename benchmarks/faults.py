"""The table of faults: what was tried, survived and lost, from the exhaustive sweeps of tests/faults.

    python -m benchmarks.faults            writes benchmarks/results/faults.json

A trial is survived if the run ends as it should (killed, or one error that says what to do), and a new run on
what it left comes out like the uninterrupted one, byte by byte; corrupt media have to end in frames or in one
line, in bounded memory and without a child left. `--every` says how many calls of the store apart those are
that fail or kill; 1 tries all of them. The result is written after every row. The rows from test files count
their tests.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree

from benchmarks.metadata import describe_environment
from tests.faults import media_trials, sweeps
from tests.faults.capture import capture, outputs_of, reconstruct
from tests.faults.doubles import RecordingFileSystem, WatchedFileSystem
from tests.faults.media_corruption import CLIPS, IMAGES

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "faults.json"
REAL_KILLS = 15
Problems: TypeAlias = list[str | None]
"""Of each trial what was wrong, None if nothing was."""
Row: TypeAlias = tuple[str, Callable[[], Problems]]
TEST_FILES = {
    "a child (decoder, mapper) is killed, or memory runs out (tests)": "test_lost_children.py",
    "no file may grow (RLIMIT_FSIZE), native writers included (tests)": "test_full_disk.py",
    "recorded frames of a live input are damaged (tests)": "test_live_damage.py",
}


def rows(folder: Path, every: int) -> Iterator[Row]:
    """Kinds of faults, and what tries them."""
    yield from rows_of_the_store(folder, every)
    yield "a video is corrupt", lambda: corrupt_videos(folder / "clips")
    yield "an image is corrupt", lambda: corrupt_images(folder / "photos")
    for kind, name in TEST_FILES.items():
        yield kind, lambda n=name: passed(f"tests/faults/{n}", folder)  # type: ignore[misc]


def rows_of_the_store(folder: Path, every: int) -> Iterator[Row]:
    """Kinds of faults of the store, the process and the run directory."""
    world, run, unwritten = capture(), folder / "run", folder / "unwritten"
    reconstruct(world, folder / "whole", WatchedFileSystem())
    expected = outputs_of(folder / "whole")
    recording = RecordingFileSystem(folder / "recorded", seed=1)
    reconstruct(world, folder / "recorded", recording)
    recording.close()
    sweeps.until_the_outputs(world, unwritten)
    half = sweeps.half_of(world, folder / "whole", folder / "half")
    calls, least = sweeps.keeping_nothing(world, folder / "nothing")
    removals = [at for at, name in enumerate(calls) if name in ("unlink", "rmdir")][1:]
    paths, lengths = sweeps.own_files(unwritten), sweeps.journal_lengths(unwritten)

    for kind, states in (
        ("killed before a call of the store (every distinct state)", recording.killed),
        ("power cut, nothing that was not synced survives (every distinct state)", recording.cut_off),
        ("power cut, some of what was not synced survives (every distinct state)", recording.cut_short),
    ):
        kept = list(states.values())
        yield kind, lambda k=kept: [sweeps.resumed(world, s, expected, run) for s in k]  # type: ignore[misc]
    some = range(0, recording.calls, max(1, recording.calls // REAL_KILLS))
    yield "SIGKILL", lambda: [sweeps.killed_for_real(world, at, expected, run) for at in some]
    for number, name in zip(sweeps.FAILURES, ("ENOSPC", "EIO"), strict=True):
        yield (
            f"a call of the store fails with {name}",
            lambda n=number: [  # type: ignore[misc]
                sweeps.failed(world, at, n, expected, run) for at in range(0, recording.calls, every)
            ],
        )
    again = range(0, len(half.calls), every)
    yield (
        "killed while a damaged half is mended",
        lambda: [sweeps.killed_again(world, half, at, expected, run) for at in again],
    )
    yield (
        "a call fails while a damaged half is mended",
        lambda: [sweeps.failed_again(world, half, at, expected, run) for at in again],
    )
    yield (
        "killed while --keep none throws away",
        lambda: [sweeps.killed(world, at, least, run, keep="none") for at in removals[::every]],
    )
    for damage in sweeps.DAMAGE:
        yield (
            f"a file of the run is damaged: {damage}",
            lambda d=damage: [  # type: ignore[misc]
                sweeps.damaged(world, unwritten, path, d, expected, run) for path in paths
            ],
        )
    yield (
        "the journal ends early (four places in every line)",
        lambda: [sweeps.cut_journal(world, unwritten, length, expected, run) for length in lengths],
    )


def corrupt_videos(folder: Path) -> Problems:
    """Every clip with every kind of damage."""
    folder.mkdir()
    clips = media_trials.clip_bytes(folder)
    trials = [media_trials.corrupt_clips(folder, name, clips[name], media_trials.ALL) for name in CLIPS]
    return [problem for problems in trials for problem in problems]


def corrupt_images(folder: Path) -> Problems:
    """A folder of every format with every kind of damage."""
    folder.mkdir()
    return media_trials.corrupt_photos(folder, list(IMAGES), media_trials.ALL)


def passed(tests: str, folder: Path) -> Problems:
    """Run the tests of a file, slow ones too."""
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", tests, "-m", "slow or not slow", f"--junit-xml={report}"]
    subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    return [f"{case.get('name')}: {case[0].get('message')}" if len(case) else None for case in cases]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=7, help="every how many calls one fails or kills")
    parser.add_argument("--only", default="", help="rows whose name contains this; writes nothing")
    arguments = parser.parse_args()
    table, lost = [], []
    with tempfile.TemporaryDirectory() as folder:
        for kind, trials in rows(Path(folder), arguments.every):
            if arguments.only not in kind:
                continue
            began_s = time.perf_counter()
            tried = trials()
            problems = [problem for problem in tried if problem is not None]
            row = {"fault": kind, "tried": len(tried), "survived": len(tried) - len(problems)}
            table.append(row | {"lost": len(problems), "seconds": round(time.perf_counter() - began_s)})
            lost += [f"{kind}: {problem}" for problem in problems]
            print(json.dumps(table[-1]), *problems, sep="\n  ", flush=True)
            if not arguments.only:
                write(arguments.every, table, lost)


def write(every: int, table: list[dict[str, object]], lost: list[str]) -> None:
    """Write what is known so far."""
    content = {**describe_environment({"every": every}), "table": table, "problems": lost}
    RESULT.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
