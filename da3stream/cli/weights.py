"""`da3stream weights`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from da3stream.estimation.da3.catalogue import KnownModel
    from da3stream.estimation.da3.weights import WeightsLocation

_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="A weights folder.  [default: ./weights and the hub's cache]",
)


@click.group()
def command() -> None:
    """List, fetch and check the weights of the DA3 network. `run` cannot use them yet.

    \b
    da3stream weights list             which models there are, and which are on this machine
    da3stream weights fetch da3-base   download one
    da3stream weights check da3-base   is it complete, and what the network expects?
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
    click.echo("CC BY-NC 4.0 allows no commercial use.")


def _purpose(model: KnownModel) -> str:
    kind = "poses and depth" if model.has_poses else "depth only"
    return f"{kind}, metric" if model.is_metric else kind


def _whereabouts(model: KnownModel, folder: Path | None) -> str:
    from da3stream.errors import WeightsError
    from da3stream.estimation.da3.weights import find_weights, weights_folders

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
    help="Put it into FOLDER/NAME/.  [default: the hub's cache]",
)
def fetch(name: str, folder: Path | None) -> None:
    """Download the model NAME from the Hugging Face hub; an interrupted download continues."""
    from da3stream.errors import WeightsError
    from da3stream.estimation.da3.catalogue import find_model, model_names
    from da3stream.estimation.da3.hub import fetch as fetch_model
    from da3stream.estimation.da3.weights import announce_licence, resolve_weights

    model = find_model(name)
    if model is None:
        raise WeightsError(f"no model is called {name}", expected=model_names())
    announce_licence(model, click.echo)
    held = fetch_model(model, folder=None if folder is None else folder / model.name)
    _describe(resolve_weights(held))


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
