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
from da3stream.errors import flag_of

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
    "start": "TIME",
    "end": "TIME",
    "vram": "SIZE",
    "disk": "SIZE",
    "chunk_size": "FRAMES|max",
    "voxel_size": "SIDE|auto",
    "intrinsics": "FILE|FX,FY,CX,CY[,K1,K2,P1,P2]",
    "distortion": "K1,K2,P1,P2[,K3]|equidistant:K1,K2,K3,K4|none",
    "masks": "FOLDER",
    "model": "NAME",
    "poses": "FILE|FOLDER",
    "weights": "PATH|seeded:N",
    "device": "auto|cpu|cuda|cuda:N",
}
"""What stands for the value in the help, where the type does not say it."""

IF_UNSET = {
    "intrinsics": "found from the frames",
    "distortion": "what --intrinsics says",
    "start": "the beginning",
    "end": "the end",
    "fps": "as --select says",
    "every": "as --select says",
    "max_frames": "no limit",
    "overlap": "half of the chunk size",
    "weights": "those that `da3stream weights fetch` got",
    "metric": "no second network",
    "vram": "what is free",
    "poses": "none are known",
    "pose_prior_sigma": "found from how far they lie from the map",
    "masks": "nothing is ignored",
    "scale_prior": "scales follow the overlaps alone",
    "mesh_voxel": "1/200 of the median depth",
    "voxel_size": "no cubes",
    "disk": "what is free, less 256 MB",
}
"""What the help says of options without a value of their own."""

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
    own = IF_UNSET[name] if field.default is None else _shown(field.default)
    return click.option(
        _flags(name, field),
        name,
        type=_type(field),
        default=None,
        metavar=_metavar(name, field),
        help=f"{field.description}  [default: {default or own}]",
    )


def _flags(name: str, field: FieldInfo) -> str:
    """`--name`; `--name/--no-name` for what is true or false."""
    flag = flag_of(name)
    return f"{flag}/--no-{flag[2:]}" if _without_none(field.annotation) is bool else flag


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
