"""Memory of forward passes: extrapolation from few frames, and the choice of what fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from da3stream.errors import DeviceMemoryError
from da3stream.estimation.da3.loading import shaped_network
from da3stream.estimation.memory import (
    CONTEXT_BYTES,
    FRAGMENTATION,
    LIBRARY_BYTES,
    ForwardMemory,
    forward_memory,
    plan_forward,
)
from da3stream.transformer.execution import ON_GPU, Execution
from da3stream.transformer.live_bytes import ALLOCATION_BYTES, LiveBytes, fused_shapes

SIZE = (504, 280)
CUTS = [Execution(), Execution(views=2, head_views=1, heads=2), Execution(views=4, head_views=2)]


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def counted(cut: Execution, frames: int, *, with_rays: bool = False) -> int:
    """Peak of a whole pass of the tiny network, counted and not extrapolated."""
    network = shaped_network("tiny", torch.bfloat16, with_rays=with_rays, with_gaussians=False)
    network.execution = replace(cut, attention=fused_shapes)
    width, height = SIZE
    with LiveBytes(network.parameters()) as live, torch.inference_mode():
        network(meta(1, frames, 3, height, width), export_rays=with_rays)
    return max(live.highest.values())


@pytest.mark.parametrize(
    ("cut", "with_rays", "frames"),
    [pytest.param(CUTS[0], False, 24, marks=pytest.mark.slow), (CUTS[1], True, 12), (CUTS[2], False, 20)],
)
def test_the_peak_of_many_frames_follows_from_few(cut: Execution, with_rays: bool, frames: int) -> None:
    """Of these, at most 3, 6 and 12 are looked at."""
    memory = forward_memory("tiny", SIZE, execution=cut, with_rays=with_rays)
    assert memory.activation_bytes(frames) == pytest.approx(
        counted(cut, frames, with_rays=with_rays), rel=1e-3
    )


def test_the_weights_are_those_of_the_network() -> None:
    network = shaped_network("tiny", torch.bfloat16, with_rays=False, with_gaussians=False)
    exact = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    tensors = len(list(network.parameters()))
    assert exact <= forward_memory("tiny", SIZE).weights_bytes < exact + tensors * ALLOCATION_BYTES


def test_smaller_pieces_need_less() -> None:
    large, usual, small = (
        forward_memory("tiny", SIZE, execution=cut).activation_bytes(64)
        for cut in (Execution(views=32, head_views=32), ON_GPU, Execution(heads=1))
    )
    assert large > 2 * usual > 2 * small


def test_memory_grows_with_the_frames_and_not_with_their_square() -> None:
    memory = forward_memory("tiny", SIZE)
    growth = [memory.activation_bytes(2 * frames) / memory.activation_bytes(frames) for frames in (50, 400)]
    assert all(1 < factor <= 2.0001 for factor in growth)


def test_the_longest_chunk_fits_and_one_frame_more_does_not() -> None:
    memory = ForwardMemory(weights_bytes=10**9, lines=((4e8, 1e7), (1e8, 3e7)))
    for budget in (3 * 10**9, 8 * 10**9):
        longest = memory.longest(budget)
        assert memory.card_bytes(longest) <= budget < memory.card_bytes(longest + 1)
    nothing_but_weights = round((10**9 + LIBRARY_BYTES) * FRAGMENTATION) + CONTEXT_BYTES
    assert memory.longest(nothing_but_weights) == 0


def test_a_plan_takes_what_was_asked_for_if_it_fits() -> None:
    plan = plan_forward("tiny", SIZE, 20, 2 * 2**30)
    assert plan.frames == 20
    assert plan.planned_bytes <= plan.budget_bytes == 2 * 2**30
    assert plan.execution == {"views": 8, "head_views": 4, "heads": 8}


def test_a_plan_cuts_the_work_smaller_before_it_shortens_the_chunk() -> None:
    generous, smallest = (forward_memory("tiny", SIZE, execution=cut) for cut in (ON_GPU, Execution()))
    budget = smallest.card_bytes(20)
    assert generous.longest(budget) < 20
    plan = plan_forward("tiny", SIZE, 20, budget)
    assert plan.frames == 20
    assert plan.execution["head_views"] < 4
    assert plan_forward("tiny", SIZE, 200, budget).frames < 200


def test_what_cannot_fit_is_said_with_what_would() -> None:
    with pytest.raises(DeviceMemoryError, match=r"tiny does not fit.*got 0.5 GiB; expected .* for 3 frames"):
        plan_forward("tiny", SIZE, None, 2**29)


def test_what_stands_beside_takes_its_share_of_the_budget() -> None:
    other = 700 * 2**20
    alone = plan_forward("tiny", SIZE, None, 2 * 2**30 - other)
    beside = plan_forward("tiny", SIZE, None, 2 * 2**30, beside_bytes=other)
    assert (beside.frames, beside.budget_bytes) == (alone.frames, 2 * 2**30)
    assert beside.planned_bytes == alone.planned_bytes + other
    with pytest.raises(DeviceMemoryError, match=r"got 1\.2 GiB; expected 1\.6 GiB for 3 frames"):
        plan_forward("tiny", SIZE, None, round(1.2 * 2**30), beside_bytes=other)


@pytest.mark.slow
def test_the_largest_model_keeps_its_promises() -> None:
    """Gigabytes of 10^9 bytes, weights included."""
    high = forward_memory("da3nested-giant-large", (504, 378))
    wide = forward_memory("da3nested-giant-large", (504, 154))
    assert high.allocated_bytes(60) <= 6.5e9
    assert high.allocated_bytes(120) <= 9.0e9
    assert high.card_bytes(240) <= 12 * 2**30
    assert wide.allocated_bytes(120) <= 6.5e9


def test_gaussians_are_counted() -> None:
    """The head's weights, and what the Gaussians of all frames take in the end: 38 numbers a pixel twice."""
    plain, more = (
        forward_memory("tiny-gaussians", SIZE, with_gaussians=with_gaussians)
        for with_gaussians in (False, True)
    )
    assert more.weights_bytes > plain.weights_bytes
    each_frame = (more.activation_bytes(64) - plain.activation_bytes(64)) / 64
    assert each_frame > 2 * 37 * 4 * SIZE[0] * SIZE[1]
