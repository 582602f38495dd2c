"""How much memory of a GPU a forward pass of an estimator takes, told without one (`LiveBytes`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from da3stream.errors import DeviceMemoryError
from da3stream.estimation.base import DevicePlan
from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.loading import shaped_network
from da3stream.estimation.da3.nested_network import NestedNetwork
from da3stream.estimation.da3.network import Network
from da3stream.transformer.execution import ON_GPU, Execution
from da3stream.transformer.live_bytes import LiveBytes, Place, fused_shapes, weights_bytes

LIBRARY_BYTES = 300 * 2**20
"""Workspaces of cuBLAS and cuDNN, assumed; beside what is counted."""
CONTEXT_BYTES = 500 * 2**20
"""What a process takes on the card before its first tensor, assumed."""
FRAGMENTATION = 1.05
"""What the allocator reserves over what is allocated, with expandable segments, assumed."""

SHORTEST = 3
"""Frames of the shortest chunk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardMemory:
    """Memory of one forward pass, as a function of its frames."""

    weights_bytes: int
    lines: tuple[tuple[float, float], ...]
    """(bytes, bytes a frame) of the places that may hold the peak, weights not included."""

    def activation_bytes(self, frames: int) -> int:
        """Live bytes at the peak, beside the weights: input, results and all between."""
        return round(max(constant + slope * frames for constant, slope in self.lines))

    def allocated_bytes(self, frames: int) -> int:
        """Live bytes at the peak; what torch reports as max_memory_allocated."""
        return self.weights_bytes + self.activation_bytes(frames)

    def card_bytes(self, frames: int) -> int:
        """What the process takes on the card: with libraries, fragmentation and context."""
        return round((self.allocated_bytes(frames) + LIBRARY_BYTES) * FRAGMENTATION) + CONTEXT_BYTES

    def longest(self, budget_bytes: int) -> int:
        """The most frames whose forward pass keeps within the budget on the card; 0 if none does."""
        room = (budget_bytes - CONTEXT_BYTES) / FRAGMENTATION - LIBRARY_BYTES - self.weights_bytes
        if any(constant + slope > room for constant, slope in self.lines):
            return 0
        return min(int((room - constant) / slope) for constant, slope in self.lines if slope > 0)


@lru_cache(maxsize=32)
def forward_memory(
    model: str,
    size: tuple[int, int],
    *,
    trunk_dtype: torch.dtype = torch.bfloat16,
    execution: Execution | None = None,
    with_rays: bool = False,
    with_gaussians: bool = False,
    reuses_features: bool = False,
) -> ForwardMemory:
    """Measure what a forward pass needs, on the meta device.

    Of da3nested-giant-large, the last step, which finds the scale from the depth of both networks, depends on
    values and is left out. It comes after the peak and takes a few depth maps.

    Args:
        model: a name of `PRESETS`.
        size: (width, height) in pixels of the images.
        trunk_dtype: type of the matrices of the transformer.
        execution: how the work is cut; default: `Execution()`.
        with_rays: poses come from the rays.
        with_gaussians: Gaussians are predicted, too.
        reuses_features: features of frames come from a cache, whose maps are there from the beginning.
    """
    network = shaped_network(model, trunk_dtype, with_rays=with_rays, with_gaussians=with_gaussians)
    cut = Execution() if execution is None else execution
    network.execution = replace(cut, attention=fused_shapes)

    def highest(frames: int) -> dict[Place, int]:
        return _highest_by_place(
            network,
            size,
            frames,
            export_rays=with_rays,
            infer_gs=with_gaussians,
            reuses_features=reuses_features,
        )

    highest(1)  # makes small tables that the networks keep from pass to pass
    piece = max(cut.views, cut.head_views)  # a multiple of both: they are powers of two
    few, more = 2 * piece, 3 * piece
    at_few, at_more = highest(few), highest(more)
    lines = [_line((few, at_few[place]), (more, at_more[place])) for place in at_few.keys() & at_more.keys()]
    return ForwardMemory(weights_bytes=weights_bytes(network), lines=_upper_envelope(lines))


def plan_forward(
    model: str,
    size: tuple[int, int],
    frames: int | None,
    budget_bytes: int,
    *,
    trunk_dtype: torch.dtype = torch.bfloat16,
    first: Execution = ON_GPU,
    with_rays: bool = False,
    with_gaussians: bool = False,
    reuses_features: bool = False,
    beside_bytes: int = 0,
) -> DevicePlan:
    """Cut the forward pass so that so many frames fit, or else as many as can.

    Args:
        model: a name of `PRESETS`.
        size: (width, height) in pixels of the images.
        frames: how many shall be reconstructed together; None: as many as fit.
        budget_bytes: what the process may take on the card, context and libraries included.
        trunk_dtype: type of the matrices of the transformer.
        first: the pieces that are preferred; they are halved until the frames fit.
        with_rays: poses come from the rays.
        with_gaussians: Gaussians are predicted, too.
        reuses_features: features of frames come from a cache, whose maps are there from the beginning.
        beside_bytes: what other networks of the process take of the budget.

    Raises:
        DeviceMemoryError: not even three frames fit.
    """
    tried = []
    cut: Execution | None = first
    while cut is not None:
        memory = forward_memory(
            model,
            size,
            trunk_dtype=trunk_dtype,
            execution=cut,
            with_rays=with_rays,
            with_gaussians=with_gaussians,
            reuses_features=reuses_features,
        )
        tried.append((memory.longest(budget_bytes - beside_bytes), cut, memory))
        if tried[-1][0] >= (SHORTEST if frames is None else frames):
            break
        cut = cut.halved()
    longest, cut, memory = max(tried, key=lambda trial: trial[0])
    if longest < SHORTEST:
        least_bytes = memory.card_bytes(SHORTEST) + beside_bytes
        raise DeviceMemoryError(
            f"{model} does not fit into the memory that it may take",
            got=f"{budget_bytes / 2**30:.1f} GiB",
            expected=f"{least_bytes / 2**30:.1f} GiB for {SHORTEST} frames of {size[0]} x {size[1]} pixels",
            hint="Choose a smaller model, a lower --resolution, or raise --vram",
        )
    chosen = longest if frames is None else min(longest, frames)
    return DevicePlan(
        frames=chosen,
        execution=cut.sizes(),
        planned_bytes=memory.card_bytes(chosen) + beside_bytes,
        budget_bytes=budget_bytes,
    )


def _highest_by_place(
    network: Network, size: tuple[int, int], frames: int, *, reuses_features: bool, **predicted: bool
) -> dict[Place, int]:
    width, height = size
    with LiveBytes(network.parameters()) as live, torch.inference_mode():
        images = torch.empty(1, frames, 3, height, width, device="meta")
        results: list[dict[str, Tensor]] = []  # they stay until the end, as in the networks' own passes
        if isinstance(network, NestedNetwork) and reuses_features:
            results.append({"maps": torch.empty(2, frames, height, width, device="meta")})
        if isinstance(network, NestedNetwork):
            results.append(network.da3(images, **predicted))
            results.append(network.da3_metric.per_view(images[0]))
        elif isinstance(network, AnyViewNetwork):
            results.append(network(images, **predicted))
        else:
            results.append(network.per_view(images[0]))
    return dict(live.highest)


def _line(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """(constant, slope) of the line through two points (frames, bytes)."""
    slope = (second[1] - first[1]) / (second[0] - first[0])
    return first[1] - slope * first[0], slope


def _upper_envelope(lines: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The lines that are the highest somewhere at one frame or more."""
    return tuple(
        sorted(
            line
            for line in set(lines)
            if not any(
                other != line and other[1] >= line[1] and sum(other) >= sum(line) for other in set(lines)
            )
        )
    )
