"""`da3stream demo`: the whole way from a video to a measured result, without any input."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from da3stream.errors import RunExistsError, command_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from da3stream.evaluation import Evaluation
    from da3stream.synthetic.demo_video import DemoCapture

_SHOWN_FRAMES = 5
_OPTIONS = {"model": "classical", "chunk_size": 24, "overlap": 8}
"""Short chunks: the cost of structure from motion without a known focal grows faster than the chunk."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ShownFrame:
    """A finished frame of the run."""

    source_index: int
    image: NDArray[Any]
    """(H, W, 3) uint8 RGB."""
    depth: NDArray[Any]
    """(h, w) z-depth in the unit of the run, 0 = unknown."""


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("da3stream_demo"),
    show_default=True,
    metavar="DIR",
    help="Where the video, its truth, the run and the picture go.",
)
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier demo in DIR.")
def command(output: Path, overwrite: bool) -> None:
    """Render a short video, reconstruct it from its pixels alone, and compare the result with the truth.

    The video shows a walk around crates in a courtyard. Neither its camera nor its poses are told to the
    reconstruction. No weights, GPU or network are needed.
    """
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise RunExistsError(
            f"the folder {output} is not empty",
            hint="Add --overwrite to replace an earlier demo, or name another one.",
        )
    start = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    capture = _render(output)
    _reconstruct(output, overwrite)
    evaluation = _evaluate(output)
    frames = _some_frames(output / "run", _SHOWN_FRAMES)
    depth_error = _depth_error_percent(capture, frames, evaluation)
    click.echo(f"depth of {len(frames)} frames: median error {depth_error:.2g} %")
    _draw(output / "demo.png", evaluation, frames)
    click.echo(f"Done in {time.monotonic() - start:.0f} s.")
    _say_what_next(output)


def _say_what_next(output: Path) -> None:
    from da3stream.store.run import REPORT

    run = output / "run"
    click.echo(f"trajectory, images and depth    {output / 'demo.png'}")
    click.echo(f"report, for any browser         {run / REPORT}")
    click.echo(f"look at it in the browser       {command_line('view', run)}")
    click.echo(f"your own video                  {command_line('run', 'video.mp4', '-o', 'out')}")


def _render(output: Path) -> DemoCapture:
    """Write the video and its truth."""
    from da3stream.synthetic.demo_video import demo_capture

    capture = demo_capture()
    click.echo(f"Rendering {len(capture)} frames to {output / 'demo.mp4'} ...")
    capture.write_video(output / "demo.mp4")
    capture.write_truth(output / "truth_tum.txt")
    return capture


def _reconstruct(output: Path, overwrite: bool) -> None:
    from da3stream.cli.run import run_and_report
    from da3stream.config import load_config

    click.echo("Reconstructing the video without knowing its camera ...")
    config = load_config(overrides=_OPTIONS)
    run_and_report(
        str(output / "demo.mp4"), output / "run", config, resume=False, overwrite=overwrite, as_json=False
    )


def _evaluate(output: Path) -> Evaluation:
    from da3stream.cli.eval import table
    from da3stream.evaluation import evaluate, load_trajectory

    evaluation = evaluate(load_trajectory(output / "run"), load_trajectory(output / "truth_tum.txt"))
    click.echo("Compared with the truth, in metres:")
    click.echo(table(evaluation))
    return evaluation


def _some_frames(run_directory: Path, count: int) -> list[_ShownFrame]:
    """Frames that lie evenly in the run."""
    import numpy as np

    from da3stream.finishing import block_of
    from da3stream.placed_map import PlacedMap
    from da3stream.store import open_existing

    run = open_existing(run_directory)
    try:
        placed, frames = PlacedMap.of(run, None), []
        total = sum(len(record.chunk.new) for record in run.fine_chunks)
        wanted = np.linspace(0, total - 1, count).round().astype(int)
        for record in run.fine_chunks:
            block = block_of(run, placed, record.chunk.index, run.typical_confidence)
            frames += [
                _ShownFrame(
                    source_index=int(block.source_index[row]),
                    image=block.images[row],
                    depth=np.where(block.confidence[row] > 0, block.depth[row], 0),
                )
                for row in np.flatnonzero(np.isin(block.index, wanted))
            ]
        return frames
    finally:
        run.close()


def _depth_error_percent(
    capture: DemoCapture, frames: Sequence[_ShownFrame], evaluation: Evaluation
) -> float:
    """Median over the pixels with depth, after the scale that fits the trajectory to the truth."""
    import numpy as np

    errors = []
    for frame in frames:
        height, width = frame.depth.shape
        true = capture.true_depth(frame.source_index, size=(width, height))
        known = frame.depth > 0
        errors.append(np.abs(frame.depth[known] * evaluation.scale / true[known] - 1))
    return 100 * float(np.median(np.concatenate(errors)))


def _draw(path: Path, evaluation: Evaluation, frames: Sequence[_ShownFrame]) -> None:
    """The trajectory over the truth, beside the frames and their depth."""
    import cv2

    from da3stream.evaluation.plot import draw_trajectories
    from da3stream.synthetic.picture import beside, depth_strip

    strip = depth_strip([frame.image for frame in frames], [frame.depth for frame in frames], width=540)
    picture = beside(draw_trajectories(evaluation, size=(900, 760), unit="m"), strip)
    cv2.imwrite(str(path), picture[..., ::-1])
