"""`da3stream demo`: the whole way from a video to a measured result, without any input."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from da3stream.errors import RunExistsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from da3stream.evaluation import Evaluation

_SHOWN_FRAMES = 5
_OPTIONS = {"model": "classical", "chunk_size": 24, "overlap": 8}
"""Short chunks: the cost of structure from motion without a known focal grows faster than the chunk."""


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
    video, truth = _render(output)
    _reconstruct(video, output / "run", overwrite)
    evaluation = _evaluate(output / "run", truth)
    _draw(output, evaluation)
    click.echo(f"Done in {time.monotonic() - start:.0f} s. See {output / 'demo.png'} and {output / 'run'}.")


def _render(output: Path) -> tuple[Path, Path]:
    """Write the video and its truth, and return where."""
    from da3stream.synthetic.demo_video import demo_capture

    capture = demo_capture()
    video, truth = output / "demo.mp4", output / "truth_tum.txt"
    click.echo(f"Rendering {len(capture)} frames to {video} ...")
    capture.write_video(video)
    capture.write_truth(truth)
    return video, truth


def _reconstruct(video: Path, run: Path, overwrite: bool) -> None:
    from da3stream.cli.run import run_and_report
    from da3stream.config import load_config

    click.echo(f"Reconstructing {video} without knowing its camera ...")
    config = load_config(overrides=_OPTIONS)
    run_and_report(video, run, config, resume=False, overwrite=overwrite, as_json=False)


def _evaluate(run: Path, truth: Path) -> Evaluation:
    from da3stream.cli.eval import table
    from da3stream.evaluation import evaluate, load_trajectory

    evaluation = evaluate(load_trajectory(run), load_trajectory(truth))
    click.echo("Compared with the truth, in metres:")
    click.echo(table(evaluation))
    return evaluation


def _draw(output: Path, evaluation: Evaluation) -> None:
    """The trajectory over the truth, beside some frames and their depth."""
    import cv2

    from da3stream.evaluation.plot import draw_trajectories
    from da3stream.synthetic.picture import beside, depth_strip

    images, depths = _some_frames(output / "run", _SHOWN_FRAMES)
    plot = draw_trajectories(evaluation, size=(900, 760), unit="m")
    picture = beside(plot, depth_strip(images, depths, width=540))
    cv2.imwrite(str(output / "demo.png"), picture[..., ::-1])


def _some_frames(run_directory: Path, count: int) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Images and depth maps (0 where nothing is known) of frames that lie evenly in the run."""
    import numpy as np

    from da3stream.finishing import PlacedMap, block_of
    from da3stream.store import open_existing

    run = open_existing(run_directory)
    try:
        placed = PlacedMap.of(run)
        total = sum(len(record.chunk.new) for record in run.chunks.values())
        wanted = set(np.linspace(0, total - 1, count).round().astype(int).tolist())
        images, depths = [], []
        for index in sorted(run.chunks):
            block = block_of(run, placed, index)
            for row in np.flatnonzero(np.isin(block.index, list(wanted))):
                images.append(block.images[row])
                depths.append(np.where(block.confidence[row] > 0, block.depth[row], 0))
        return images, depths
    finally:
        run.close()
