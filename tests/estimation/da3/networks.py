"""Networks with pseudo-random weights, and their results beside those of the published network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from da3stream.estimation.da3.network import create_network
from tests.estimation.da3.golden import FOLDER, load, load_meta, relative_error
from tests.estimation.da3.seeded_weights import normalise, seeded_state_dict

TOLERANCE = 1e-5
"""A tenth of what users may expect; the largest error of all fixtures is below 5e-6."""
RAYS = {"head.ray": "ray", "head.ray_conf": "ray_conf"}


def tiny_shapes() -> dict[str, list[int]]:
    return json.loads((FOLDER / "tiny_keys.json").read_text())["checkpoint"]


def seeded_network(
    name: str, shapes: dict[str, list[int]], multiplier: Callable[[str], float] | None = None
) -> nn.Module:
    """A network whose weights depend on their names only, each times `multiplier` of its name."""
    weights = seeded_state_dict(shapes)
    if multiplier is not None:
        weights = {key: value * multiplier(key) for key, value in weights.items()}
    with torch.device("meta"):
        network = create_network(name)
    network.load_state_dict(
        {key.removeprefix("model."): value for key, value in weights.items()}, assign=True
    )
    return network.requires_grad_(False)


def images_of(golden: dict[str, Tensor]) -> Tensor:
    """(B, N, 3, H, W) normalised input of a golden file."""
    images = golden["images_u8"].numpy()
    scenes = images if images.ndim == 5 else images[None]
    return torch.cat([normalise(scene) for scene in scenes])


def result_for(network: nn.Module, path: Path, **options: Any) -> dict[str, Tensor]:
    """What a network makes of a golden file's input."""
    golden, said = load(path), load_meta(path).get("kwargs", {})
    options = {"export_feat_layers": said["export_feat_layers"]} | options if said else options
    if "in.extrinsics" in golden:
        options |= {name: golden[f"in.{name}"][None] for name in ("extrinsics", "intrinsics")}
    if "head.ray" in golden:
        options["export_rays"] = True
    with torch.inference_mode():
        return network(images_of(golden), **options)


def errors(result: dict[str, Tensor], path: Path, prefix: str = "") -> dict[str, float]:
    """Relative error of every result that the golden file holds, under names that begin with `prefix`."""
    golden, strides = load(path), load_meta(path)["stride"]
    batched = golden["images_u8"].ndim == 5
    found = {}
    for name, expected in golden.items():
        ours = result.get(RAYS.get(name, name.removeprefix(prefix).removeprefix("aux.")))
        if ours is None or not name.startswith(prefix):
            continue
        step = slice(None, None, strides.get(name, 1))
        if name in strides:
            ours = ours[:, :, step, step]
        found[name] = relative_error(ours if batched else ours[0], expected)
    return found


def captured(network: nn.Module, run: Callable[[], object]) -> dict[str, Tensor]:
    """Outputs of all named modules during a run, `NAME.in` their first inputs; later changes do not show."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
            if inputs and isinstance(inputs[0], Tensor):
                seen[f"{name}.in"] = inputs[0].clone()
            if isinstance(output, Tensor):
                seen[name] = output.clone()

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in network.named_modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return seen


def close(ours: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    error = relative_error(ours, expected)
    assert error <= tolerance, f"relative error {error:.1e}"


@contextmanager
def executing(network: Any, **sizes: Any) -> Iterator[None]:
    """With the work cut otherwise than usual; see `Execution`."""
    usual, network.execution = network.execution, replace(network.execution, **sizes)
    try:
        yield
    finally:
        network.execution = usual


def random_images(views: int, rows: int = 3, columns: int = 4, *, batch: int = 1, seed: int = 0) -> Tensor:
    """(batch, views, 3, 14 rows, 14 columns) noise."""
    values = np.random.default_rng(seed).normal(size=(batch, views, 3, 14 * rows, 14 * columns))
    return torch.from_numpy(values.astype(np.float32))
