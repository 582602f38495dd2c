"""Writes the report into the run directory."""

from __future__ import annotations

from pathlib import Path

from da3stream.errors import RunIncompleteError, command_line
from da3stream.placed_map import PlacedMap
from da3stream.report.facts import Facts
from da3stream.report.page import page_of
from da3stream.store import Run
from da3stream.store.manifest import keeps_submaps
from da3stream.store.run import REPORT


def write_report(run: Run, placed: PlacedMap | None = None) -> Path:
    """Write RUN/report.html; the same run directory gives the same bytes.

    Args:
        run: finished or not.
        placed: its finished map, if it is at hand; without it only the chain of chunks is placed anew.

    Returns the path of the page.

    Raises:
        RunIncompleteError: nothing is stored yet, or what the page shows was not kept.
        RunCorruptError: a file of the run that the page shows is damaged.
    """
    facts = Facts(run, placed)
    if not run.chunks:
        raise RunIncompleteError(
            f"the run {run.root} has no finished chunk yet",
            hint=f"Go on with it: {command_line('resume', run.root)}",
        )
    if not facts.has_pixels and run.files.exists(REPORT):
        is_kept = keeps_submaps(run.manifest)
        why = "has lost its submaps or frames" if is_kept else "was made with --keep none"
        again = f" They are made anew by: {command_line('resume', run.root)}" if is_kept else ""
        raise RunIncompleteError(
            f"the run {run.root} {why}: its {REPORT} cannot be made again",
            hint=f"The page from the end of the run is still there.{again}",
        )
    pending = run.file(REPORT)
    with run.files.writing(REPORT):
        try:
            pending.stream.write(page_of(facts).encode())
            pending.commit()
        except BaseException:
            pending.abort()
            raise
    return run.root / REPORT
