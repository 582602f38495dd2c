"""`da3stream report`"""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
def command(run_directory: Path) -> None:
    """Write RUN/report.html: what came out of a run, and whether it can be trusted.

    One page without anything outside of it, for any browser: the path before and after loops, depth and
    confidence, loops, how the chunks fit, speed, memory, warnings and how to do it again. Every run writes it
    at its end; of a run that has not finished, the page shows what is there.
    """
    from da3stream.report import write_report
    from da3stream.store import open_existing

    run = open_existing(run_directory)
    try:
        path = write_report(run)
    finally:
        run.close()
    click.echo(path)
