"""`da3stream info`"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(source: Path, as_json: bool) -> None:
    """Show what is in INPUT and what a run with default options would take from it."""
