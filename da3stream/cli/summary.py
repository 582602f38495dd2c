"""What a finished run says at its end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from da3stream.errors import command_line
from da3stream.result import Result
from da3stream.store import read_manifest
from da3stream.store.manifest import keeps_submaps

WHAT_IT_IS = {
    "report.html": "open it in a browser: what came out, and whether it can be trusted",
    "camera_poses.txt": "camera to world, 16 numbers a line",
    "trajectory_tum.txt": "the same with timestamps, for evo and SLAM tools",
    "trajectory.png": "the path from above, before and after loops were closed",
    "cameras.json": "names, times, intrinsics of your images, poses",
    "loop_closures.txt": "pairs of frames that show the same place",
    "loop_closures.json": "all pairs that were looked at, and why some were refused",
    "pcd/combined_pcd.ply": "coloured point cloud",
    "chunks": "coloured points, a file for each chunk",
    "scene.glb": "points and cameras for any 3D viewer",
    "gs_ply/gaussians.ply": "3D Gaussians for splat viewers",
    "mesh/mesh.ply": "coloured triangle mesh",
    "colmap": "images/ and sparse/0 for COLMAP and splatting",
    "nerfstudio": "images, depth and transforms.json for nerfstudio",
    "depth_vis": "depth in colours beside the images, and a video of it",
    "depth_png": "depth, 16 bits; depth.json says the scale",
    "depth_exr": "depth, 32-bit float",
    "npz/results.npz": "images, depth, confidence and cameras, as DA3's tools write them",
    "mini_npz/results.npz": "the same without images",
    "rerun/capture.rrd": "recording for rerun's viewer",
    "mcap/capture.mcap": "recording for Foxglove",
    "ros2bag": "ROS 2 bag",
    "K.txt": "camera matrix of your images, OpenCV's pixels",
    "orbslam3.yaml": "camera settings for ORB-SLAM3",
    "kalibr_imucam_chain.yaml": "camera settings for OpenVINS",
    "results_output": "full-size depth, one npz a frame",
}
COUNTS = ("chunks", "coarse_chunks", "place", "loops", "loops_rejected", "loop_rejections")
"""Entries of run.json that are shown."""


def chunks_and_loops(manifest: Mapping[str, Any]) -> list[str]:
    """Two lines of what run.json says; none if it has no counts: the run has not finished."""
    if not manifest.keys() >= set(COUNTS):
        return []
    chunks = f"{_counted(manifest['chunks'], 'chunk')}, {_counted(manifest['coarse_chunks'], 'coarse one')}"
    if manifest["place"] == "none":
        return [chunks, "no loops were looked for"]
    loops = f"{_counted(manifest['loops'], 'loop')} closed, {manifest['loops_rejected'] or 'none'} rejected"
    if manifest["loop_rejections"]:
        reason, count = next(iter(manifest["loop_rejections"].items()))
        loops += f" ({count} because {reason})"
    return [chunks, f"{loops}, places described by {manifest['place']}"]


def outputs_in(run_directory: Path) -> list[tuple[Path, str]]:
    """The outputs that are there, and what they are."""
    files = [(run_directory / name, meaning) for name, meaning in WHAT_IT_IS.items()]
    return [(file, meaning) for file, meaning in files if file.exists()]


def next_commands(run_directory: Path, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What can be done with a finished run: title and command. `--keep none` leaves the poses alone."""
    against_truth = ("against a truth", command_line("eval", run_directory, "--gt") + " FILE")
    if not keeps_submaps(manifest):
        return [against_truth]
    return [
        ("look at it", command_line("view", run_directory)),
        ("its report again", command_line("report", run_directory)),
        ("other formats", command_line("export", run_directory, "--to", "glb,nerfstudio")),
        ("set upright", command_line("align", run_directory, "--up", "plane")),
        against_truth,
    ]


def print_finished(result: Result, *, as_json: bool) -> None:
    """Say of a run that was to be continued that it has finished before, and what to do with it."""
    if as_json:
        print_summary(result, as_json=True)
        return
    click.echo(f"finished already: {len(result.trajectory)} frames in {result.output}")
    for title, command in next_commands(result.output, read_manifest(result.output)):
        click.echo(f"{title:16} {command}")


def nothing_left_for(flags: Iterable[str], run_directory: Path) -> Iterator[str]:
    """Why options that tell what comes of a run do nothing for a finished one, and what does; a line each."""
    instead = {
        "--view": ("watch", command_line("view", run_directory)),
        "--publish": ("publish", command_line("export", run_directory, "--to", "rerun")),
        "--rerun": ("log", command_line("export", run_directory, "--to", "rerun")),
    }
    keeps_depth = keeps_submaps(read_manifest(run_directory))
    for flag in flags:
        verb, command = instead[flag]
        way_on = f"what came out: {command}" if keeps_depth else "and it was made with --keep none"
        yield f"{flag}: the run has finished, nothing is left to {verb}; {way_on}"


def _counted(count: int, thing: str) -> str:
    return f"{count or 'no'} {thing}{'' if count == 1 else 's'}"


def print_summary(result: Result, *, as_json: bool) -> None:
    """Print frames, chunks, loops, warnings and where the outputs are."""
    manifest = read_manifest(result.output)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "stage": "result",
                    "output": str(result.output),
                    "frames": len(result.trajectory),
                    **{name: manifest.get(name) for name in COUNTS},
                    "warnings": list(result.warnings),
                    "measured": dict(result.measured),
                }
            )
        )
        return
    click.echo(f"{len(result.trajectory)} frames reconstructed in {result.measured['seconds_total']:.0f} s")
    for line in chunks_and_loops(manifest):
        click.echo(line)
    for file, meaning in outputs_in(result.output):
        click.echo(f"  {file}  {meaning}")
    if result.warnings:
        count = len(result.warnings)
        click.echo(f"{count} warning{'s' if count > 1 else ''}, also in {result.output / 'run.json'}:")
        for warning in result.warnings[:10]:
            click.echo(f"  {warning}")
