"""The SALAD network with its weights, fetched if need be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from da3stream.errors import WeightsError
from da3stream.place.salad import checkpoint
from da3stream.place.salad import weights as salad_weights
from da3stream.place.salad.checkpoint import CheckpointTensors
from da3stream.place.salad.download import download
from da3stream.place.salad.network import SaladNetwork
from da3stream.transformer.execution import trunk_dtype_for
from da3stream.transformer.filling import DtypeRule, fill_network
from da3stream.transformer.seeded_weights import SeededTensors, seed_of
from da3stream.transformer.weights_folders import weights_folders

_TRUNK_LINEAR = re.compile(r"backbone\.model\.blocks\.\d+\.(?:attn\.(?:qkv|proj)|mlp\.\w+)\.")


def load_salad(
    weights: str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
    notify: Callable[[str], None] | None = None,
) -> SaladNetwork:
    """Build the network and load its weights into the types and the device where they are used.

    Args:
        weights: a checkpoint file, or `seeded:N` for pseudo-random ones; None: `dino_salad.ckpt` of a weights
            folder, downloaded into the first of them if none has it.
        device: where the network runs. The matrices of its transformer get `trunk_dtype_for(device)`,
            everything else is float32.
        notify: takes lines about the download and the licence; default: the log.

    Raises:
        ConfigError: `seeded:` is not followed by a number.
        WeightsError: the file is not there, cannot be fetched, is damaged, or belongs to another network.
    """
    network, seed, rule = checkpoint.empty_network(), seed_of(weights), _rule(trunk_dtype_for(device))
    if seed is not None:
        shapes = checkpoint.tensor_shapes(network)
        seeded = SeededTensors(shapes, seed, prefix="")
        fill_network(network, [(name, name) for name in shapes], seeded, rule, device)
        return network
    file = _located(notify) if weights is None else Path(weights)
    tensors = CheckpointTensors(file)
    salad_weights.check_digest(file)
    match = tensors.match(network)
    match.require(str(file))
    salad_weights.announce_licence(notify)
    fill_network(network, match.source_of.items(), tensors, rule, device)
    return network


def shaped_salad(trunk_dtype: torch.dtype) -> SaladNetwork:
    """The network as `load_salad` makes it, on the meta device: shapes and types, no values."""
    network, rule = checkpoint.empty_network(), _rule(trunk_dtype)
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(rule(name))
        parameter.requires_grad_(False)
    return network


def weights_identity(weights: str | Path | None = None) -> dict[str, Any]:
    """What tells weights from others: name and SHA-256 of the file, or the seed.

    Args:
        weights: as for `load_salad`, which has fetched them if need be.

    Raises:
        ConfigError: `seeded:` is not followed by a number.
        WeightsError: there is no such file, or it cannot be read.
    """
    seed = seed_of(weights)
    if seed is not None:
        return {"seed": seed}
    file = _located(None) if weights is None else Path(weights)
    return {"file": file.name, "sha256": salad_weights.sha256(file)}


def fetch_salad(folder: Path, url: str | None = None) -> Path:
    """Download the checkpoint into a folder, check that it fits, and record its SHA-256 beside it.

    A file that is there already is kept, after a comparison with its record. A broken download stays as
    `dino_salad.ckpt.part`, and the next call continues it.

    Args:
        folder: a weights folder; made if need be.
        url: where the file is; default: the release of the authors.

    Returns:
        The checkpoint.

    Raises:
        WeightsError: no network, the connection breaks again and again, no space; what came or what is there
            is damaged or no such checkpoint.
    """
    file = folder / salad_weights.CHECKPOINT_FILE
    if file.is_file():
        salad_weights.check_digest(file)
        return file
    source, part = url or salad_weights.RELEASE_URL, file.with_name(f"{file.name}.part")
    download(source, part, by_hand=file)
    try:
        checkpoint.check_salad(part)
    except WeightsError:
        part.unlink()  # to continue it would be of no use
        raise
    salad_weights.record_digest(part, of=file, source=source)
    part.replace(file)
    return file


def _located(notify: Callable[[str], None] | None) -> Path:
    folders = weights_folders()
    found = salad_weights.find_salad(folders)
    if found is not None:
        return found
    megabytes = salad_weights.SIZE_BYTES / 1e6
    line = f"fetching {salad_weights.CHECKPOINT_FILE} ({megabytes:.0f} MB) into {folders[0]}"
    (notify or salad_weights.logger.warning)(line)
    return fetch_salad(folders[0])


def _rule(trunk: torch.dtype) -> DtypeRule:
    return lambda name: trunk if _TRUNK_LINEAR.match(name) else torch.float32
