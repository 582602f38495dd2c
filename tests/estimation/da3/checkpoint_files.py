"""Checkpoints that tests write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from da3stream.transformer.seeded_weights import seeded_array

_TINY_KEYS = Path(__file__).resolve().parents[2] / "fixtures" / "da3" / "tiny_keys.json"

Arrays = Mapping[str, NDArray[Any]]


def tiny_shapes() -> dict[str, tuple[int, ...]]:
    """Shape by name as a published checkpoint of the model `tiny` would hold them."""
    stored = json.loads(_TINY_KEYS.read_text())["checkpoint"]
    return {name: tuple(shape) for name, shape in stored.items()}


def tiny_arrays() -> dict[str, NDArray[Any]]:
    """The seeded weights of `tiny`."""
    return {name: seeded_array(name, shape) for name, shape in tiny_shapes().items()}


def write_weights(file: Path, arrays: Arrays) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(arrays), file, metadata={"format": "pt"})
    return file


def write_folder(folder: Path, arrays: Arrays, *, model: str | None = None) -> Path:
    """A folder as the hub has it; without `model`, it has no config.json."""
    write_weights(folder / "model.safetensors", arrays)
    if model is not None:
        write_config(folder, model)
    return folder


def write_shards(folder: Path, arrays: Arrays, *, shards: int) -> Path:
    """The same in several files with an index."""
    names = list(arrays)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        held = names[shard::shards]
        write_weights(folder / file, {name: arrays[name] for name in held})
        weight_map |= dict.fromkeys(held, file)
    write_index(folder, weight_map)
    return folder


def write_index(folder: Path, weight_map: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def write_config(folder: Path, model: str) -> None:
    content = {"config": {"__object__": {"path": "x", "name": "y", "args": "as_params"}}, "model_name": model}
    (folder / "config.json").write_text(json.dumps(content, indent=2))


def few_arrays() -> dict[str, NDArray[Any]]:
    """A small checkpoint for tests that do not care what is in it."""
    rng = np.random.default_rng(7)
    shapes = {"model.first.weight": (3, 2), "model.first.bias": (3,), "model.scale": ()}
    return {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in shapes.items()}
