"""`da3stream info`"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from da3stream.source import InputDescription


@click.command()
@click.argument("source", metavar="INPUT")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(source: str, as_json: bool) -> None:
    """Show what is in INPUT, and what `run` would take of it by default. Of a run: what came out.

    INPUT is what `run` takes: of a URL or a webcam the first frame is waited for.
    """
    if (Path(source) / "run.json").is_file():
        _show_run(Path(source), as_json)
        return
    from da3stream.chunking import count_chunks
    from da3stream.colmap_input import ColmapFolder
    from da3stream.config import load_config
    from da3stream.config.model import DEFAULT_CHUNK_SIZE
    from da3stream.scene import ChunkSizes
    from da3stream.source import probe

    config = load_config()
    colmap = ColmapFolder.find(source)
    found = probe(source if colmap is None else colmap.frames(config), config)
    sizes = ChunkSizes(size=DEFAULT_CHUNK_SIZE, overlap=config.overlap_of(DEFAULT_CHUNK_SIZE))
    chunks = None if found.selected_frames is None else count_chunks(found.selected_frames, sizes)
    if as_json:
        click.echo(json.dumps({**asdict(found), "chunks": chunks}, indent=2))
        return
    for title, value in _lines(found, chunks):
        click.echo(f"{title:12} {value}")


def _show_run(run_directory: Path, as_json: bool) -> None:
    """What run.json says. Needs no lock: the run may be going on."""
    from da3stream.cli.summary import next_commands, outputs_in
    from da3stream.errors import command_line
    from da3stream.store import read_manifest

    manifest = read_manifest(run_directory)
    if as_json:
        click.echo(json.dumps(manifest, indent=2))
        return
    for title, value in _run_lines(run_directory, manifest):
        click.echo(f"{title:12} {value}")
    if manifest["status"] != "finished":
        click.echo(f"{'go on with':12} {command_line('resume', run_directory)}")
        return
    for file, meaning in outputs_in(run_directory):
        click.echo(f"  {file}  {meaning}")
    for title, command_text in next_commands(run_directory, manifest):
        click.echo(f"{title:16} {command_text}")


def _run_lines(run_directory: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Title and value of what a run directory holds."""
    from da3stream.cli.summary import chunks_and_loops
    from da3stream.disk import folder_bytes

    is_finished = manifest["status"] == "finished"
    yield "run", "finished" if is_finished else "not finished"
    yield "input", manifest["input"] or "a source object"
    yield "model", manifest["model"]
    yield "frames", _frames_of(run_directory, is_finished)
    counts = chunks_and_loops(manifest)
    yield from zip(("chunks", "loops"), counts, strict=False)
    if manifest.get("alignment"):
        yield "world", _world(manifest["alignment"])
    yield "size", f"{folder_bytes(run_directory) / 1e6:.0f} MB on the disk"
    if is_finished:
        yield "warnings", f"{len(manifest['warnings'])}, in {run_directory / 'run.json'}"


def _frames_of(run_directory: Path, is_finished: bool) -> str:
    """How many frames are stored, and at what size they were processed. Needs no lock."""
    from da3stream.errors import RunCorruptError
    from da3stream.store import FollowedRun

    try:
        records = FollowedRun(run_directory).fine_chunks
    except RunCorruptError as error:
        return f"unknown: {error}"
    count = sum(len(record.chunk.new) for record in records)
    size = ", processed at {} x {} px".format(*records[0].image_size) if records else ""
    return f"{count}{'' if is_finished else ' so far'}{size}"


def _world(alignment: dict[str, Any]) -> str:
    """What `da3stream align` made of the world frame."""
    turned = f"upright by {alignment['up']}" if alignment["up"] else "not turned"
    unit = ", in metres by hand" if alignment["is_metric"] else ""
    return f"{turned}, scaled by {alignment['scale']:.6g}{unit}"


def _lines(found: InputDescription, chunks: int | None) -> list[tuple[str, str]]:
    lines = [
        ("input", found.container if found.codec is None else f"video, {found.codec} in {found.container}"),
        ("size", f"{found.width} x {found.height} px" + _rotation(found.rotation_deg)),
        ("frames", _count(found.frames, "" if found.frames_are_counted else "about ")),
        ("duration", "unknown" if found.duration_s is None else f"{found.duration_s:.2f} s"),
        ("rate", _rate(found)),
        (
            "times from",
            {"container": "the container", "exif": "EXIF", "synthetic": "frame numbers"}[found.timestamps],
        ),
        ("a run takes", f"{_count(found.selected_frames, 'about ')} frames"),
        ("processed at", f"{found.processing_width} x {found.processing_height} px"),
    ]
    return lines if chunks is None else [*lines, ("chunks", str(chunks))]


def _rotation(rotation_deg: int) -> str:
    return f", turned by {rotation_deg} degrees" if rotation_deg else ""


def _count(number: int | None, prefix: str) -> str:
    return "an unknown number of" if number is None else f"{prefix}{number}"


def _rate(found: InputDescription) -> str:
    if found.average_fps is None:
        return "unknown"
    return f"{found.average_fps:.3g} frames/s" + (", variable" if found.is_variable_rate else "")
