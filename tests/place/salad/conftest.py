"""The network with pseudo-random weights, and a small one for all that is about files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from da3stream.place.salad import checkpoint, weights
from da3stream.place.salad.loading import load_salad
from da3stream.place.salad.network import SaladConfig, SaladNetwork

SMALL = SaladConfig(width=32, depth=2, heads=2, hidden=16, token_width=8, clusters=16, cluster_width=4)


@pytest.fixture(scope="session")
def salad() -> SaladNetwork:
    """The published sizes, seeded weights: those of the golden files."""
    return load_salad("seeded:0")


@pytest.fixture
def small_salad(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is loaded is a small network, whose checkpoint has the published names."""

    def small() -> SaladNetwork:
        with torch.device("meta"):
            return SaladNetwork(SMALL)

    monkeypatch.setattr(checkpoint, "empty_network", small)
    monkeypatch.setattr(weights, "_ANNOUNCED", set())


@pytest.fixture
def small_file(small_salad: None, tmp_path: Path) -> Path:
    """A checkpoint of the small network, as published: with DINOv2's mask token."""
    file = tmp_path / "published" / "dino_salad.ckpt"
    file.parent.mkdir()
    torch.save(small_tensors(), file)
    return file


def small_tensors() -> dict[str, torch.Tensor]:
    tensors = dict(load_salad("seeded:0").state_dict())
    tensors["backbone.model.mask_token"] = torch.ones(1, SMALL.width)
    return tensors
