"""`da3stream plan`"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from da3stream.estimation.base import DevicePlan
    from da3stream.estimation.memory import ForwardMemory

FRAMES = (8, 16, 30, 60, 120, 240)


@click.command(context_settings={"show_default": True})
@click.option("--model", default="da3-base", help="A model that `da3stream weights list` names.")
@click.option(
    "--vram",
    default="12GB",
    metavar="SIZE",
    help="Memory that the run may take on the card; a bare number counts GB.",
)
@click.option("--size", default="1920x1080", metavar="WxH", help="Size of the images.")
@click.option("--resolution", default=504, type=click.IntRange(28, 4096), help="As of `run`.")
@click.option("--pose-head", type=click.Choice(["camera", "ray"]), default="camera", help="As of `run`.")
@click.option(
    "--place",
    type=click.Choice(["auto", "salad", "vlad", "backbone", "none"]),
    default="auto",
    help="As of `run`; salad takes memory of the card, too.",
)
@click.option(
    "--export",
    metavar="A,B,...",
    help="As of `run`: with gs_ply, a giant model predicts Gaussians, too; no other format takes memory of "
    "the card.  [default: none]",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    model: str,
    vram: str,
    size: str,
    resolution: int,
    pose_head: str,
    place: str,
    export: str | None,
    as_json: bool,
) -> None:
    """Show how much GPU memory a model takes, and the longest chunk that fits. Needs neither GPU nor weights.

    \b
    da3stream plan --model da3nested-giant-large --vram 12GB --size 1920x1080
    da3stream plan --model da3-large --vram 6GB --resolution 392
    da3stream plan --model da3-giant --vram 12GB --export gs_ply
    """
    from da3stream.config import load_config
    from da3stream.errors import ConfigError
    from da3stream.estimation import no_gaussians
    from da3stream.estimation.da3.catalogue import MODELS, find_model
    from da3stream.estimation.da3.config import predicts_gaussians
    from da3stream.estimation.memory import forward_memory, plan_forward
    from da3stream.imaging import processing_size
    from da3stream.place.choice import resolve_place
    from da3stream.place.salad.memory import describing_bytes
    from da3stream.transformer.execution import ON_GPU

    known = find_model(model)
    if known is None or not known.has_poses:
        names = ", ".join(other.name for other in MODELS if other.has_poses)
        raise ConfigError("this model reconstructs no video", got=model, expected=f"one of {names}")
    processed = processing_size(*_size(size), resolution)
    config = load_config(None, {"place": place, "export": export or ""})
    with_rays, with_gaussians = pose_head == "ray", "gs_ply" in config.export
    if with_gaussians and not predicts_gaussians(known.name):
        raise no_gaussians(known.name)
    budget = _budget(vram)
    measure = partial(forward_memory, known.name, processed, execution=ON_GPU, with_rays=with_rays)
    memory = measure(with_gaussians=with_gaussians)
    descriptor = resolve_place(config, lambda: True)
    beside = describing_bytes() if descriptor == "salad" else 0
    plan = plan_forward(
        known.name,
        processed,
        None,
        budget,
        with_rays=with_rays,
        with_gaussians=with_gaussians,
        beside_bytes=beside,
    )
    head = 0
    if with_gaussians:
        head = memory.card_bytes(plan.frames) - measure(with_gaussians=False).card_bytes(plan.frames)
    if as_json:
        told = _as_json(known.name, processed, memory, plan, beside) | {"gaussians_bytes": head}
        click.echo(json.dumps({**told, "place": descriptor}, indent=2))
        return
    click.echo(f"{known.name}, images of {processed[0]} x {processed[1]} px, transformer in bfloat16")
    click.echo(f"weights      {memory.weights_bytes / 2**30:6.2f} GiB")
    if beside:
        click.echo(f"salad        {beside / 2**30:6.2f} GiB, the place descriptor; counted in what follows")
    if with_gaussians:
        click.echo(
            f"Gaussians    {head / 2**30:6.2f} GiB for {plan.frames} frames (gs_ply); counted in what follows"
        )
    for frames in FRAMES:
        fits = "" if frames <= plan.frames else "   does not fit"
        card = memory.card_bytes(frames) + beside
        click.echo(f"{frames:4d} frames  {card / 2**30:6.2f} GiB on the card{fits}")
    click.echo(f"longest chunk within {budget / 2**30:g} GiB: {plan.frames} frames (--chunk-size max)")


def _as_json(
    model: str, size: tuple[int, int], memory: ForwardMemory, plan: DevicePlan, place_bytes: int
) -> dict[str, object]:
    return {
        "model": model,
        "image_size": list(size),
        "weights_bytes": memory.weights_bytes,
        "allocated_bytes": {str(frames): memory.allocated_bytes(frames) for frames in FRAMES},
        "place_bytes": place_bytes,
        "card_bytes": {str(frames): memory.card_bytes(frames) + place_bytes for frames in FRAMES},
        "budget_bytes": plan.budget_bytes,
        "longest_chunk": plan.frames,
        "execution": dict(plan.execution),
    }


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.BadParameter(f"{text!r} is no size like 1920x1080", param_hint="--size")
    return int(width), int(height)


def _budget(text: str) -> int:
    from da3stream.config.model import memory_bytes

    try:
        return memory_bytes(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--vram") from error
