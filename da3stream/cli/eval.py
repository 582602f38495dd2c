"""`da3stream eval`: compares a trajectory with the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from da3stream.evaluation import ErrorStatistics, Evaluation


_BASIS = {
    "names": "names",
    "timestamps": "timestamps",
    "index": "position: row i of the truth is frame i of the source",
}


@click.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--gt",
    "truth",
    required=True,
    type=click.Path(path_type=Path),
    help="The truth: a TUM or KITTI file, a transforms.json, a COLMAP model, or another run.",
)
@click.option(
    "--alignment",
    type=click.Choice(["sim3", "se3", "none"]),
    default="sim3",
    show_default=True,
    help="What may be fitted before errors are measured: rotation, translation and scale; no scale; nothing.",
)
@click.option(
    "--max-time-difference",
    type=click.FloatRange(min=0),
    default=0.01,
    show_default=True,
    metavar="SECONDS",
    help="Poses further apart in time are not paired.",
)
@click.option(
    "--rpe-delta",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="FRAMES",
    help="Distance of the two frames whose relative motion the RPE compares.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw both trajectories to this PNG file."
)
def command(
    run: Path,
    truth: Path,
    alignment: Literal["sim3", "se3", "none"],
    max_time_difference: float,
    rpe_delta: int,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Measure how far the trajectory of RUN is from the truth.

    RUN is a run directory, or a trajectory file in any of the formats that --gt takes. Frames are paired by
    image name, by time, or by their number in the source (KITTI), whichever both sides have.
    """
    from da3stream.evaluation import evaluate, load_trajectory

    evaluation = evaluate(
        load_trajectory(run),
        load_trajectory(truth),
        alignment=alignment,
        max_time_difference_s=max_time_difference,
        rpe_delta_frames=rpe_delta,
    )
    click.echo(json.dumps(evaluation.to_dict(), indent=2) if as_json else table(evaluation))
    if plot is not None:
        from da3stream.evaluation.plot import save_plot

        save_plot(plot, evaluation)


def table(evaluation: Evaluation) -> str:
    """The evaluation as lines of a name and a value."""
    pairs, delta = evaluation.associated_frames, evaluation.rpe_delta_frames
    over = f"over {delta} frame" + ("s" if delta > 1 else "")
    rows = {
        "associated frames": f"{pairs} of {evaluation.estimate_frames}, by {_BASIS[evaluation.method]}",
        "path length": f"{evaluation.path_length:.6g}",
        f"ATE ({evaluation.alignment})": _statistics(evaluation.ate),
        "ATE / path length": f"{evaluation.ate_percent:.3g} %",
        f"RPE translation {over}": _statistics(evaluation.rpe_translation),
        f"RPE rotation {over}": _statistics(evaluation.rpe_rotation_deg, " deg"),
        "scale": f"{evaluation.scale:.6g}",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _statistics(errors: ErrorStatistics | None, unit: str = "") -> str:
    if errors is None:
        return "too few frames"
    return (
        f"RMSE {errors.rmse:.4g}{unit}  mean {errors.mean:.4g}{unit}"
        f"  median {errors.median:.4g}{unit}  max {errors.max:.4g}{unit}"
    )
