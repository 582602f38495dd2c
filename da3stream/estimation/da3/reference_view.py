"""Which view of a set becomes the reference: the one whose camera the network takes for the world."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from da3stream.errors import ConfigError

MINIMUM_VIEWS = 3
"""Of fewer views the first is the reference, whatever the strategy."""


def choose_reference(class_tokens: Tensor, strategy: str) -> Tensor:
    """Index of the reference view of each batch item; the first of fewer than three views.

    Args:
        class_tokens: (batch, views, C), not normalised.
        strategy: a key of STRATEGIES.

    Returns:
        (batch,) int64.

    Raises:
        ConfigError: there is no such strategy.
    """
    check_strategy(strategy)
    if class_tokens.shape[1] < MINIMUM_VIEWS:
        return _first(class_tokens)
    return STRATEGIES[strategy](class_tokens.float())


def check_strategy(strategy: str) -> None:
    """Raise ConfigError for a strategy that is none."""
    if strategy not in STRATEGIES:
        expected = " or ".join(STRATEGIES)
        raise ConfigError("there is no such reference view strategy", got=repr(strategy), expected=expected)


def reference_first(x: Tensor, reference: Tensor) -> Tensor:
    """(batch, views, ...) with view `reference` (batch,) first, the others after it in their order."""
    index = torch.arange(x.shape[1], device=x.device)
    chosen = reference[:, None]
    source = torch.where(index == 0, chosen, index - (index <= chosen).long())
    return x[torch.arange(len(x), device=x.device)[:, None], source]


def _first(class_tokens: Tensor) -> Tensor:
    return torch.zeros(len(class_tokens), dtype=torch.long, device=class_tokens.device)


def _middle(class_tokens: Tensor) -> Tensor:
    return _first(class_tokens) + class_tokens.shape[1] // 2


def _saddle_balanced(class_tokens: Tensor) -> Tensor:
    """The view that is nearest to the middle of the range in similarity, length and variance."""
    lengths = class_tokens.norm(dim=-1)
    units = class_tokens / lengths[..., None]
    similarity = (_similarity(units).sum(-1)) / (class_tokens.shape[1] - 1)
    metrics = torch.stack((similarity, lengths, units.var(dim=-1)))
    low, high = metrics.amin(-1, keepdim=True), metrics.amax(-1, keepdim=True)
    balanced = (metrics - low) / (high - low + 1e-8)
    return (balanced - 0.5).abs().sum(0).argmin(-1)


def _saddle_sim_range(class_tokens: Tensor) -> Tensor:
    """The view with the widest range of similarities, the zero to itself included.

    Where all similarities are positive, the two views of the most similar pair tie, and rounding decides.
    """
    similarity = _similarity(class_tokens / class_tokens.norm(dim=-1, keepdim=True))
    return (similarity.amax(-1) - similarity.amin(-1)).argmax(-1)


def _similarity(units: Tensor) -> Tensor:
    """(batch, views, views) cosines, zero for a view with itself."""
    return units @ units.mT - torch.eye(units.shape[1], device=units.device)


STRATEGIES: dict[str, Callable[[Tensor], Tensor]] = {
    "saddle_balanced": _saddle_balanced,
    "saddle_sim_range": _saddle_sim_range,
    "first": _first,
    "middle": _middle,
}
