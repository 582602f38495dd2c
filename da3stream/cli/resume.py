"""`da3stream resume`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from da3stream.cli.live_view import live_view, view_option
from da3stream.cli.options import publish_option, rerun_option

if TYPE_CHECKING:
    from da3stream.progress import Progress


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@publish_option
@rerun_option
@view_option
@click.option(
    "--disk",
    metavar="SIZE",
    help="What the run directory may take on the disk from now on, 50GB for example; a bare number counts GB."
    "  [default: as before]",
)
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    help="Where the remaining chunks are estimated: in this process, or on a Ray cluster."
    "  [default: as before]",
)
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
def command(
    run_directory: Path,
    publish: str | None,
    rerun: Path | None,
    view: bool,
    disk: str | None,
    executor: str | None,
    as_json: bool,
) -> None:
    """Continue an interrupted run with the input and options that it was started with.

    Of a run that has finished it says so; the input is not needed for that.
    """
    from da3stream.cli.run import run_and_report
    from da3stream.cli.summary import nothing_left_for, print_finished
    from da3stream.config import load_config
    from da3stream.errors import StoreError
    from da3stream.pipeline import finished_result
    from da3stream.store import read_manifest

    manifest = read_manifest(run_directory)
    means = {name: value for name, value in (("disk", disk), ("executor", executor)) if value is not None}
    config = load_config(None, manifest["config"] | means)
    result = finished_result(run_directory, config, progress=_tell)
    if result is not None:
        wanted = {"--view": view, "--publish": publish is not None, "--rerun": rerun is not None}
        for line in nothing_left_for([flag for flag, is_given in wanted.items() if is_given], result.output):
            click.echo(line, err=True)
        print_finished(result, as_json=as_json)
        return
    if manifest["input"] is None:
        raise StoreError(
            f"{run_directory} was made from a source object",
            hint="Call da3stream.reconstruct(..., resume=True).",
        )
    with live_view(run_directory, wanted=view) as page:
        run_and_report(manifest["input"], run_directory, config, True, False, as_json, publish, rerun, page)


def _tell(progress: Progress) -> None:
    if progress.message:
        click.echo(progress.message, err=True)
