"""`da3stream align`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from da3stream.scene import WorldAlignment


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--up",
    type=click.Choice(["gravity", "plane"]),
    help="Turn the world upright: x right, y down, z where the first camera looks. plane: by the ground that "
    "most frames see; a street that slopes all along comes out level. gravity: by the mean of the cameras' "
    "up vectors, for captures without ground; as level as the camera was held. Either way the cameras decide "
    "which side is up.",
)
@click.option("--scale", type=float, metavar="METRES", help="Metres in a unit that the run came out in.")
@click.option(
    "--known-distance",
    nargs=3,
    type=(str, str, float),
    metavar="A B METRES",
    help="Scale by the distance between two points. A and B are frames (their index, from 0: the camera's "
    "centre) or FRAME:X,Y, what the frame shows at a pixel of your image.",
)
@click.option("--reset", is_flag=True, help="Go back to the frame and unit that the run came out in.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
def command(
    run_directory: Path,
    up: Any,
    scale: float | None,
    known_distance: tuple[str, str, float] | None,
    reset: bool,
    as_json: bool,
) -> None:
    """Set a finished RUN upright, bring it to metres, or both, in all its outputs.

    Without --up or a scale, what an earlier `align` chose of it stays. Everything is relative to the frame
    and unit that the run came out in: twice is the same as once.
    """
    from da3stream.cli.progress_view import show_progress
    from da3stream.pipeline import align
    from da3stream.store.records import alignment_fields
    from da3stream.world_frame import KnownDistance, ScenePoint

    known = None
    if known_distance is not None:
        start, end, metres = known_distance
        known = KnownDistance(start=ScenePoint.parse(start), end=ScenePoint.parse(end), metres=metres)
    with show_progress(as_json=as_json) as progress:
        alignment = align(
            run_directory, up=up, scale=scale, known_distance=known, reset=reset, progress=progress
        )
    chosen = {"alignment": alignment_fields(alignment) or None}
    click.echo(json.dumps(chosen) if as_json else describe(alignment))


def describe(alignment: WorldAlignment | None) -> str:
    """What a run is aligned by, in a line."""
    import numpy as np

    if alignment is None:
        return "the world is the one that the run came out in"
    rotation, scale = alignment.world_from_run.rotation, float(alignment.world_from_run.scale)
    turn = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    turned = f"turned upright by {turn:.1f} degrees ({alignment.up})" if alignment.up else "not turned"
    return f"the world is {turned}, scaled by {scale:.6g}{', in metres' if alignment.is_metric else ''}"
