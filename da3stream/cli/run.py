"""`da3stream run`"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from da3stream.cli.live_view import LiveView, live_view, view_option
from da3stream.cli.options import config_options, overrides_of, publish_option, rerun_option
from da3stream.config import Config, load_config, preset_names

if TYPE_CHECKING:
    from da3stream.listening import Listener
    from da3stream.progress import ProgressCallback
    from da3stream.result import Result
    from da3stream.source.base import FrameSource


@click.command(context_settings={"show_default": True})
@click.argument("source", metavar="INPUT")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The run directory to make."
)
@click.option(
    "--config",
    "config_file",
    metavar="FILE|PRESET",
    help=f"Options from a YAML file or a preset ({', '.join(preset_names())}). The command line wins.",
)
@config_options
@click.option("--resume", is_flag=True, help="Continue an interrupted run with the same input and options.")
@click.option("--overwrite", is_flag=True, help="Remove an older run in the run directory first.")
@publish_option
@rerun_option
@view_option
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
def command(
    source: str,
    output: Path,
    config_file: str | None,
    resume: bool,
    overwrite: bool,
    publish: str | None,
    rerun: Path | None,
    view: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Reconstruct INPUT: a video file, a folder of images, a COLMAP folder (images/ and sparse/), a URL
    (rtsp, rtmp, http, udp, tcp), a webcam (0 or /dev/video0), or - for a container on standard input.

    \b
    da3stream run drive.mp4 -o drive --fps 10
    da3stream run photos/ -o photos_run --intrinsics 1375.5,1374.5,554.6,965.3
    da3stream run photos/ -o known --poses poses.txt --masks masks/
    da3stream run drive.mp4 -o drive --intrinsics kalibr_camchain.yaml
    da3stream run walk.mp4 -o walk --config indoor --start 0:10 --end 1:10
    da3stream run walk.mp4 -o walk --model da3-base          after `da3stream weights fetch da3-base`
    da3stream run rtsp://user:password@camera/stream -o yard --end 600
    ffmpeg -i in.mp4 -c copy -f matroska - | da3stream run - -o out

    Stop it with Ctrl-C at any time; `da3stream resume RUN` goes on where it was.

    A camera does not wait. If the run is slower, at most 60 selected frames wait for it; beyond that, those
    whose neighbours are closest in time are dropped, so that the gaps stay even, and counted in run.json. A
    stream that breaks is connected again for up to 60 s. The first Ctrl-C ends the capture and the run is
    finished; the second one interrupts it. An interrupted capture is finished from what was recorded.
    """
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other.")
    config = load_config(config_file, overrides_of(options))
    with live_view(output, wanted=view) as page:
        run_and_report(source, output, config, resume, overwrite, as_json, publish, rerun, page)


def run_and_report(
    source: str,
    output: Path,
    config: Config,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    publish: str | None = None,
    rerun: Path | None = None,
    page: LiveView | None = None,
) -> None:
    """Reconstruct with progress, then say what came out and where it is. `page` shows it meanwhile."""
    from da3stream.cli.interrupting import interrupt_stops_capture
    from da3stream.cli.progress_view import show_progress
    from da3stream.cli.summary import print_summary
    from da3stream.errors import ProcessLostError, command_line
    from da3stream.pipeline import reconstruct
    from da3stream.source import is_live, open_source
    from da3stream.source.known_camera import with_known_camera

    if is_live(source):
        config = with_known_camera(config, source)
    go_on = command_line("resume", output)
    opened = open_source(source, config) if is_live(source) else source
    try:
        with show_progress(as_json=as_json) as shown, interrupt_stops_capture(opened, shown):
            progress = shown if page is None else page.beside(shown)
            if publish is None and rerun is None:
                result = reconstruct(
                    opened, output, config=config, resume=resume, overwrite=overwrite, progress=progress
                )
            else:
                listeners = _listeners(publish, rerun, output, progress)
                result = _tell(listeners, opened, output, config, resume, overwrite, progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted. What is done is kept; go on with: {go_on}") from None
    except MemoryError:
        raise ProcessLostError(
            "memory ran out", hint=f"What is stored is kept; go on with: {go_on}"
        ) from None
    print_summary(result, as_json=as_json)


def _listeners(
    address: str | None, rerun: Path | None, output: Path, progress: ProgressCallback
) -> Iterator[Listener]:
    """Who is to hear of every update; each is opened as it is asked for."""
    from da3stream.progress import Progress

    if rerun is not None:
        from da3stream.live_rerun import LiveRerun

        yield LiveRerun(rerun, output)
        progress(Progress(stage="start", message=f"logging to {rerun}"))
    if address is not None:
        from da3stream.publishing import Publisher

        yield Publisher(address)
        progress(Progress(stage="start", message=f"publishing at {address}"))


def _tell(
    listeners: Iterator[Listener],
    source: str | FrameSource,
    output: Path,
    config: Config,
    resume: bool,
    overwrite: bool,
    progress: ProgressCallback,
) -> Result:
    """Reconstruct, and tell every update to the listeners."""
    from da3stream.pipeline import reconstruct, stream
    from da3stream.store import read_manifest

    with ExitStack() as stack:
        hearing = [stack.enter_context(listener) for listener in listeners]
        for listener in hearing:
            listener.start(config.model_dump(mode="json"))
        for update in stream(
            source, output, config=config, resume=resume, overwrite=overwrite, progress=progress
        ):
            for listener in hearing:
                listener.update(update)
        for listener in hearing:
            listener.end("finished", is_metric=read_manifest(output)["is_metric"])
    return reconstruct(source, output, config=config, resume=True)  # it has finished: this reads the result
