"""The tiny network, built once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
import torch

from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from tests.estimation.da3.networks import seeded_network, tiny_shapes
from tests.estimation.da3.seeded_weights import eps_multiplier


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from threads, which wait for each other on a busy machine."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


@pytest.fixture(scope="session")
def tiny() -> AnyViewNetwork:
    return cast(AnyViewNetwork, seeded_network("tiny", tiny_shapes()))


@pytest.fixture(scope="session")
def tiny_near_epsilon() -> AnyViewNetwork:
    """Its activations are so small that the epsilon of every layer normalisation matters."""
    return cast(AnyViewNetwork, seeded_network("tiny", tiny_shapes(), eps_multiplier))
