"""Command-line options made from the configuration model: the same names, types and help."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from da3stream.config import OUTPUT_OPTIONS, Config

GREATEST_PORT = 65535


def _address(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    match = re.fullmatch(r"tcp://[^\s:/]+:(\d{1,5})", value or "")
    if value is not None and not (match and 0 < int(match[1]) <= GREATEST_PORT):
        raise click.BadParameter(f"{value!r} is no address like tcp://127.0.0.1:5555")
    return value


publish_option = click.option(
    "--publish",
    metavar="tcp://HOST:PORT",
    callback=_address,
    help="Send poses, corrections and points as they come to whoever connects there (ZeroMQ, msgpack; needs "
    "`pip install 'da3stream[publish]'`). No password, no encryption: take 127.0.0.1 unless the network is "
    "yours.",
)

rerun_option = click.option(
    "--rerun",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Log images, depth, cameras, points and trajectory to this .rrd file as they come, corrections too, "
    "for rerun's viewer (needs `pip install 'da3stream[rerun]'`). An older file is replaced; a resumed run "
    "logs everything again, from its first chunk on.",
)

METAVARS = {
    "intrinsics": "FILE|FX,FY,CX,CY[,K1,K2,P1,P2]",
    "distortion": "K1,K2,P1,P2[,K3]|equidistant:K1,K2,K3,K4|none",
    "masks": "FOLDER",
    "model": "NAME",
    "poses": "FILE|FOLDER",
    "weights": "PATH|seeded:N",
    "device": "auto|cpu|cuda|cuda:N",
}
"""What stands for the value in the help, where the type does not say it."""

Function = TypeVar("Function", bound=Callable[..., Any])


def config_options(function: Function) -> Function:
    """Give a command one option for each field of `Config`; unset ones arrive as None."""
    for name, field in reversed(Config.model_fields.items()):
        function = _option(name, field)(function)
    return function


def output_options(function: Function) -> Function:
    """Give a command those options that concern outputs alone; unset ones arrive as None."""
    for name in reversed(OUTPUT_OPTIONS):
        function = _option(name, Config.model_fields[name], default="the run's")(function)
    return function


def overrides_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {
        name: value for name, value in options.items() if name in Config.model_fields and value is not None
    }


def _option(name: str, field: FieldInfo, default: str | None = None) -> Callable[[Function], Function]:
    """The option of a field; `default` is what the help says of it, if not what the field says."""
    shown = _shown(field.default) if default is None and field.default is not None else default
    ending = "" if shown is None else f"  [default: {shown}]"
    return click.option(
        _flags(name, field),
        name,
        type=_type(field),
        default=None,
        metavar=_metavar(name, field),
        help=f"{field.description}{ending}",
    )


def _flags(name: str, field: FieldInfo) -> str:
    """`--name`; `--name/--no-name` for what is true or false."""
    flag = name.replace("_", "-")
    return f"--{flag}/--no-{flag}" if _without_none(field.annotation) is bool else f"--{flag}"


def _type(field: FieldInfo) -> Any:
    """click's type: choices for literals, numbers, and text for everything that the model parses itself."""
    inner = _without_none(field.annotation)
    if any(isinstance(part, BeforeValidator) for part in field.metadata):
        return str
    if get_origin(inner) is Literal:
        return click.Choice(get_args(inner))
    return inner if inner in (int, float, bool) else str


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def _metavar(name: str, field: FieldInfo) -> str | None:
    if name in METAVARS:
        return METAVARS[name]
    return "A,B,..." if get_origin(_without_none(field.annotation)) is tuple else None


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return ",".join(default) if isinstance(default, tuple) else str(default)
