"""`da3stream intrinsics`"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from da3stream.calibrating import FoundCamera

DEFAULT_FRAMES = 24


@click.command(context_settings={"show_default": True})
@click.argument("source", metavar="INPUT")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the 3x3 matrix there, with OpenCV's pixels.",
)
@click.option(
    "--model",
    help="Estimate with this model, whatever the metadata say: classical, or one of `da3stream weights "
    "list`. By default EXIF or QuickTime metadata are asked first, then classical.",
)
@click.option("--weights", metavar="PATH|seeded:N", help="Weights of the model, as of `run`.")
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="Where a network runs.")
@click.option(
    "--start",
    metavar="TIME",
    help="Where the stretch of a video begins: seconds or [h:]mm:ss[.f].  [default: the beginning]",
)
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=DEFAULT_FRAMES,
    help="Frames to estimate from, at most: the first ones between which a video moves.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    source: str,
    output: Path | None,
    model: str | None,
    weights: str | None,
    device: str,
    start: str | None,
    frames: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Tell the camera matrix K of INPUT: an image, a folder of images, or a video.

    \b
    da3stream intrinsics walk.mp4 -o K.txt
    da3stream intrinsics photo.jpg --model da3-base
    da3stream run walk.mp4 -o walk --intrinsics K.txt

    It is looked up in the EXIF data of images (unless they were cropped) or the QuickTime metadata of videos
    (iPhones), or estimated from a short stretch where the camera moves.
    Going straight on, like a car, tells nothing of the focal length. Pixels are taken for square, and lens
    distortion is not estimated.
    """
    from da3stream.calibrating import camera_from_metadata, estimate_camera
    from da3stream.config import load_config
    from da3stream.errors import RunExistsError

    if output is not None and output.exists() and not overwrite:
        raise RunExistsError(f"{output} exists", hint="Replace it with --overwrite, or name another file.")
    is_video = not Path(source).is_dir()
    overrides = {
        "model": model or "classical",
        "weights": weights,
        "device": device,
        "start": start,
        "max_frames": frames,
        "select": "motion" if is_video else "all",
    }
    config = load_config(None, overrides)

    def notify(line: str) -> None:
        click.echo(line, err=True)

    found = None if model else camera_from_metadata(source, config, notify)
    if found is None:
        found = estimate_camera(source, config, notify)
    if output is not None:
        _write(output, found)
    _report(found, output, as_json)


def _write(output: Path, found: FoundCamera) -> None:
    from da3stream.errors import StoreError
    from da3stream.writers.k import k_text

    try:
        with click.open_file(str(output), "w", atomic=True) as stream:
            stream.write(k_text(found.camera))
    except OSError as error:
        raise StoreError(f"cannot write {output}: {error.strerror}") from None


def _report(found: FoundCamera, output: Path | None, as_json: bool) -> None:
    camera = found.camera
    if as_json:
        fields = {**asdict(camera), "origin": found.origin, "is_sure": found.is_sure}
        click.echo(json.dumps({**fields, "field_of_view_deg": found.field_of_view_deg}, indent=2))
        return
    horizontal, vertical = found.field_of_view_deg
    numbers = ",".join(f"{value:.2f}" for value in (camera.fx, camera.fy, camera.cx, camera.cy))
    click.echo(f"{'fx fy cx cy':14} {numbers.replace(',', ' ')}  pixels, the first one has its centre at 0.5")
    click.echo(f"{'images':14} {camera.width} x {camera.height} px")
    click.echo(f"{'field of view':14} {horizontal:.1f} x {vertical:.1f} degrees")
    click.echo(f"{'from':14} {found.origin}")
    click.echo(f"{'for a run':14} --intrinsics {numbers}")
    if output is not None:
        click.echo(f"{'written':14} {output}, in OpenCV's pixels: cx and cy are 0.5 less there")
    if not found.is_sure:
        click.echo(
            "warning: these frames hardly tell the focal length; take a stretch where the camera goes "
            "around things (--start), or a network (--model)",
            err=True,
        )
