"""`da3stream weights`"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from da3stream.estimation.da3.bench import BenchResult
    from da3stream.estimation.da3.catalogue import KnownModel
    from da3stream.estimation.da3.weights import WeightsLocation

SALAD = "salad"

_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="A weights folder.  [default: ./weights and the hub's cache]",
)


@click.group()
def command() -> None:
    """List, fetch, check and time the models: those of the DA3 network, and the place descriptor salad.

    \b
    da3stream weights list             which models there are, and which are on this machine
    da3stream weights fetch da3-base   download one
    da3stream weights check da3-base   is it complete, and what the network expects?
    da3stream weights bench            how fast are the models on this machine?
    """


@command.command("list")
@_FOLDER
def list_models(folder: Path | None) -> None:
    """List the models: name, size, licence, repository, and where they lie on this machine."""
    from da3stream.estimation.da3.catalogue import MODELS

    for model in MODELS:
        click.echo(
            f"{model.name:22} {model.size_bytes / 1e9:5.2f} GB  {model.licence:13} {_purpose(model):24} "
            f"{model.repository}"
        )
        click.echo(f"{'':22} {_whereabouts(model, folder)}")
    _list_salad(folder)
    click.echo("CC BY-NC 4.0 allows no commercial use.")


def _list_salad(folder: Path | None) -> None:
    from da3stream.place.salad.weights import LICENCE, RELEASE_URL, SIZE_BYTES, find_salad

    found = find_salad(None if folder is None else (folder,))
    click.echo(f"{SALAD:22} {SIZE_BYTES / 1e9:5.2f} GB  {LICENCE}, place descriptor, {RELEASE_URL}")
    click.echo(f"{'':22} {'not on this machine' if found is None else found.parent}")


def _purpose(model: KnownModel) -> str:
    kind = "poses and depth" if model.has_poses else "depth only"
    return f"{kind}, metric" if model.is_metric else kind


def _whereabouts(model: KnownModel, folder: Path | None) -> str:
    from da3stream.errors import WeightsError
    from da3stream.estimation.da3.weights import find_weights
    from da3stream.transformer.weights_folders import weights_folders

    try:
        found = find_weights(model, weights_folders() if folder is None else (folder,))
    except WeightsError as error:
        return f"unusable: {error}"
    return "not on this machine" if found is None else str(found.files[0].parent)


@command.command()
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Put it into FOLDER/NAME/, salad into FOLDER.  [default: the hub's cache; salad: ./weights]",
)
def fetch(name: str, folder: Path | None) -> None:
    """Download the model NAME from the Hugging Face hub, or salad from its authors' release on GitHub.

    An interrupted download continues.
    """
    from da3stream.errors import WeightsError
    from da3stream.estimation.da3.catalogue import find_model, model_names
    from da3stream.estimation.da3.hub import fetch as fetch_model
    from da3stream.estimation.da3.weights import announce_licence, resolve_weights

    if name == SALAD:
        _fetch_salad(folder)
        return
    model = find_model(name)
    if model is None:
        raise WeightsError(f"no model is called {name}", expected=f"{model_names()}, {SALAD}")
    announce_licence(model, click.echo)
    held = fetch_model(model, folder=None if folder is None else folder / model.name)
    _describe(resolve_weights(held))


def _fetch_salad(folder: Path | None) -> None:
    from da3stream.place.salad.loading import fetch_salad
    from da3stream.place.salad.weights import announce_licence, recorded_digest
    from da3stream.transformer.weights_folders import weights_folders

    announce_licence(click.echo)
    file = fetch_salad(weights_folders()[0] if folder is None else folder)
    click.echo(f"file       {file}")
    click.echo(f"digest     {recorded_digest(file) or 'not recorded: put there by hand'}")


@command.command()
@click.argument("path", metavar="NAME_OR_PATH")
@click.option("--model", "name", help="The model that a bare file belongs to.")
@click.option("--full", is_flag=True, help="Also read every value: finds damage behind an intact header.")
@_FOLDER
def check(path: str, name: str | None, full: bool, folder: Path | None) -> None:
    """Say whether a checkpoint is complete and has the names and shapes that its network expects."""
    from da3stream.errors import WeightsError
    from da3stream.estimation.da3 import preset
    from da3stream.estimation.da3.weights import resolve_weights
    from da3stream.place.salad.weights import CHECKPOINT_FILE

    if SALAD in (path, name) or Path(path).name == CHECKPOINT_FILE:
        _check_salad(path, folder)
        return
    location = resolve_weights(path, folder)
    if name is None:
        if location.model is None:
            raise WeightsError(f"nothing says which model {path} is", hint="Say it: --model NAME")
        name = location.model.name
    preset(name)  # a model that does not exist is said before a file is read
    _describe(location)
    _check_names(location, name)
    if full:
        _check_values(location)
    click.echo(f"verdict    complete, and fits {name}")


def _check_salad(path: str, folder: Path | None) -> None:
    """Always with every value: the file is small."""
    from da3stream.errors import WeightsError
    from da3stream.place.salad.checkpoint import check_salad
    from da3stream.place.salad.weights import CHECKPOINT_FILE, check_digest, find_salad

    file = Path(path) if path != SALAD else find_salad(None if folder is None else (folder,))
    if file is None:
        hint = f"Download it with: da3stream weights fetch {SALAD}"
        raise WeightsError(f"{CHECKPOINT_FILE} is in no weights folder", hint=hint)
    click.echo(f"file       {file}")
    click.echo(f"values     {check_salad(file):,}, all finite")
    if check_digest(file):
        click.echo("digest     SHA-256 as recorded at the download")
    click.echo(f"verdict    complete, and fits {SALAD}")


def _describe(location: WeightsLocation) -> None:
    from da3stream.estimation.da3.safetensors_file import read_headers

    records = read_headers(location.files)
    for file in location.files:
        click.echo(f"file       {file}")
    click.echo(f"revision   {location.revision or 'not recorded'}")
    click.echo(f"tensors    {len(records)}, {location.size_bytes / 1e9:.2f} GB")


def _check_names(location: WeightsLocation, name: str) -> None:
    from da3stream.estimation.da3.checkpoint import check_names, empty_network

    check_names(empty_network(name), location).require(str(location.files[0]))


def _check_values(location: WeightsLocation) -> None:
    from da3stream.estimation.da3.checkpoint import check_values
    from da3stream.estimation.da3.hub import check_digest

    click.echo(f"values     {check_values(location):,}, all finite")
    if all(check_digest(file) for file in location.files):
        click.echo("digest     SHA-256 as published")


@command.command()
@click.argument("models", nargs=-1, metavar="[MODELS]...")
@click.option(
    "--size",
    "sizes",
    multiple=True,
    default=("504x280",),
    show_default=True,
    metavar="WxH",
    callback=lambda _context, _option, texts: tuple(map(_size, texts)),
    help="Size of the frames in pixels, multiples of 14; may be given several times.",
)
@click.option(
    "--frames",
    default="8,16",
    show_default=True,
    metavar="N,M,...",
    callback=lambda _context, _option, text: _counts(text),
    help="Frames of a chunk.",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]")
@click.option(
    "--weights",
    default="seeded:0",
    show_default=True,
    metavar="PATH|seeded:N",
    help="Pseudo-random weights need no download, and the values of weights do not change the speed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def bench(
    models: tuple[str, ...],
    sizes: tuple[tuple[int, int], ...],
    frames: tuple[int, ...],
    device: str,
    weights: str,
    as_json: bool,
) -> None:
    """Time MODELS on this machine: frames per second and peak memory by size and chunk.

    Default: da3-small and da3-base on a CPU, all models on a GPU. Each line is measured in a process of its
    own: one forward pass to warm up, then the median of three. Memory is the resident peak of that process
    on a CPU, and what torch allocated (and reserved) on a GPU.
    """
    from da3stream.errors import EstimationError
    from da3stream.estimation.da3.bench import BenchCase, measure

    if not weights.startswith("seeded:"):
        weights = str(Path(weights).expanduser().resolve())
    cases = [
        BenchCase(model=model, weights=weights, device=device, width_px=width, height_px=height, frames=count)
        for model in _bench_models(models, device)
        for width, height in sizes
        for count in frames
    ]
    if not as_json:
        click.echo(f"weights: {weights}")
        click.echo(_BENCH_ROW.format("model", "size", "frames", "type", "seconds", "frames/s", "memory"))
    results = []
    for case in cases:
        results.append(measure(case))
        if not as_json:
            click.echo(_bench_line(results[-1]))
    if not any(result.measured for result in results):
        raise EstimationError("nothing could be measured", got=results[0].failure)
    if as_json:
        click.echo(json.dumps([result.to_dict() for result in results], indent=2))


_BENCH_ROW = "{:22} {:>9} {:>6}  {:8} {:>8} {:>8}  {}"


def _size(text: str) -> tuple[int, int]:
    """`504x280` -> (504, 280)"""
    from da3stream.transformer import PATCH_PX

    matched = re.fullmatch(r"(\d+)x(\d+)", text)
    sides = (int(matched[1]), int(matched[2])) if matched else (0, 0)
    if not all(side and side % PATCH_PX == 0 for side in sides):
        raise click.BadParameter(f"{text!r} is no width x height in multiples of {PATCH_PX}, like 504x280")
    return sides


def _counts(text: str) -> tuple[int, ...]:
    """`8,16` -> (8, 16)"""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise click.BadParameter(f"{text!r} is no list of numbers like 8,16")
    return tuple(map(int, text.split(",")))


def _bench_models(names: tuple[str, ...], device: str) -> list[str]:
    from da3stream.estimation.da3 import preset
    from da3stream.estimation.da3.catalogue import MODELS, find_model
    from da3stream.estimation.da3.choice import FIT_FOR_CPU
    from da3stream.estimation.da3.device import choose_device

    where = choose_device(device)  # one that is not there is an error, and no table full of it
    if not names:
        return [model.name for model in MODELS if where.type == "cuda" or model.name in FIT_FOR_CPU]
    known = [(name, find_model(name)) for name in names]
    return [preset(name if model is None else model.name).name for name, model in known]


def _bench_line(result: BenchResult) -> str:
    case, found = result.case, result.measured
    size = f"{case.width_px}x{case.height_px}"
    if found is None:
        return _BENCH_ROW.format(case.model, size, case.frames, "-", "-", "-", result.failure)
    memory = f"{found.peak_bytes / 2**30:.2f} GiB"
    if found.reserved_bytes is not None:
        memory += f" ({found.reserved_bytes / 2**30:.2f} reserved)"
    seconds, rate = f"{found.seconds:.3g}", f"{found.frames_per_s:.3g}"
    return _BENCH_ROW.format(
        case.model, size, case.frames, found.trunk_dtype, seconds, rate, f"{memory}, {found.hardware}"
    )
