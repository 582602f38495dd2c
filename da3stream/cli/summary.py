"""What a finished run says at its end."""

from __future__ import annotations

import json

import click

from da3stream.result import Result

WHAT_IT_IS = {
    "camera_poses.txt": "camera to world, 16 numbers a line",
    "trajectory_tum.txt": "the same with timestamps, for evo and SLAM tools",
    "cameras.json": "names, times, intrinsics of your images, poses",
    "pcd/combined_pcd.ply": "coloured point cloud",
    "colmap": "images/ and sparse/0 for COLMAP and splatting",
    "results_output": "full-size depth, one npz a frame",
}


def print_summary(result: Result, *, as_json: bool) -> None:
    """Print frames, warnings and where the outputs are."""
    if as_json:
        click.echo(
            json.dumps(
                {
                    "stage": "result",
                    "output": str(result.output),
                    "frames": len(result.trajectory),
                    "warnings": list(result.warnings),
                    "measured": dict(result.measured),
                }
            )
        )
        return
    click.echo(f"{len(result.trajectory)} frames reconstructed in {result.measured['seconds_total']:.0f} s")
    for path, meaning in WHAT_IT_IS.items():
        if (result.output / path).exists():
            click.echo(f"  {result.output / path}  {meaning}")
    if result.warnings:
        count = len(result.warnings)
        click.echo(f"{count} warning{'s' if count > 1 else ''}, also in {result.output / 'run.json'}:")
        for warning in result.warnings[:10]:
            click.echo(f"  {warning}")
