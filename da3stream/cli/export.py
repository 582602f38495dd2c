"""`da3stream export`"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from da3stream.cli.options import output_options, overrides_of
from da3stream.config.model import ExportName


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "names",
    required=True,
    metavar="A,B,...",
    help=f"Formats: {', '.join(get_args(ExportName))}, results (needs a run made with --keep full; the other "
    "formats with depth maps hold the reduced depth without it).",
)
@output_options
@click.option("--json", "as_json", is_flag=True, help="Print progress as JSON lines.")
def command(run_directory: Path, names: str, as_json: bool, **options: Any) -> None:
    """Write formats of a finished RUN again, or others than it was made with. No inference is needed.

    \b
    da3stream export drive --to glb,tum
    da3stream export drive --to colmap --refine ba --colmap-images 500

    Options are the run's own unless they are given. run.json tells which outputs were made with others.
    """
    from da3stream.cli.progress_view import show_progress
    from da3stream.pipeline import export

    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    if not wanted:
        raise click.UsageError("--to names no format.")
    with show_progress(as_json=as_json) as progress:
        export(run_directory, wanted, options=overrides_of(options), progress=progress)
    if not as_json:
        click.echo(f"{', '.join(wanted)} written to {run_directory}")
