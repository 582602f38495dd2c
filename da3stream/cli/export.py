"""`da3stream export`"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "names",
    required=True,
    metavar="A,B,...",
    help="Formats: poses, tum, kitti, cameras, loops, trajectory, pcd, colmap, k, orbslam3, openvins, "
    "results (needs a run made with --keep full).",
)
@click.option("--json", "as_json", is_flag=True, help="Print progress as JSON lines.")
def command(run_directory: Path, names: str, as_json: bool) -> None:
    """Write formats of a finished RUN again, or others than it was made with. No inference is needed."""
    from da3stream.cli.progress_view import show_progress
    from da3stream.pipeline import export

    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    with show_progress(as_json=as_json) as progress:
        export(run_directory, wanted, progress=progress)
