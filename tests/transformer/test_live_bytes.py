"""Counting what is alive on the meta device."""

from __future__ import annotations

import torch

from da3stream.transformer.live_bytes import ALLOCATION_BYTES, LiveBytes, weights_bytes


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def test_live_bytes_rise_and_fall() -> None:
    with LiveBytes([]) as live:
        first = meta(1000)  # 4,000 bytes: 8 allocations of 512
        assert live.now == 4096
        view = first[10:].view(2, -1)
        assert live.now == 4096
        second = first + 1
        del first
        assert live.now == 8192
        del view
        assert live.now == 4096
        del second
    assert live.now == 0
    assert max(live.highest.values()) == 8192


def test_weights_and_their_views_do_not_count() -> None:
    weight = meta(100, 100)
    with LiveBytes([weight]) as live:
        kept = weight[:50].T
        assert live.now == 0
        assert kept.shape == (100, 50)


def test_every_weight_is_an_allocation_of_its_own() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(128, 4), torch.nn.Linear(4, 1, dtype=torch.float64))
    assert weights_bytes(layers) == 4 * 128 * 4 + 3 * ALLOCATION_BYTES
