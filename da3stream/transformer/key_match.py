"""Which tensor of a checkpoint goes where in a network, and everything that does not fit, at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from da3stream.errors import WeightsError

Shapes = Mapping[str, Sequence[int]]

_PREFIX = "model."
_SHOWN = 10

# The four levels of the ray branch share one LayerNorm, which files keep once, at level 0.
_SHARED_NORM = re.compile(r"(.*\bscratch\.output_conv2_aux\.)[1-3](\.2\.(?:weight|bias))")


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyMatch:
    """How a checkpoint fits a network.

    Attributes:
        source_of: name in the checkpoint for each name in the network that it can fill.
        missing: names in the network that the checkpoint has nothing for.
        unexpected: names in the checkpoint that the network has no place for.
        misshapen: one line for each name whose shapes differ.
    """

    source_of: Mapping[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)

    def require(self, what: str) -> None:
        """Raise one error that lists the first names of each kind, if anything does not fit."""
        if self.fits:
            return
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "misshapen": self.misshapen}
        listed = [_listed(kind, names) for kind, names in kinds.items() if names]
        raise WeightsError(
            f"{what} does not fit the network: {'; '.join(listed)}",
            hint="Name the model that these weights belong to, or fetch them: da3stream weights fetch NAME",
        )


def match_keys(network: Shapes, checkpoint: Shapes, *, skip: Sequence[str] = ()) -> KeyMatch:
    """Compare names and shapes.

    A `model.` in front of all names of the checkpoint does not count; the copies of the shared LayerNorm may
    be stored or not. Everything else must be the same.

    Args:
        network: shape by name, as the network's state dict has them.
        checkpoint: shape by name, as stored.
        skip: beginnings of names in the checkpoint that are left out on purpose, `gs_head.` for example.
    """
    stored = stored_names(checkpoint)
    source_of = {name: stored[held] for name in network if (held := _held_name(name, stored)) is not None}
    misshapen = [
        f"{source} {tuple(checkpoint[source])} for {tuple(network[name])}"
        for name, source in source_of.items()
        if tuple(checkpoint[source]) != tuple(network[name])
    ]
    used = {shared_name(name) for name in network}
    return KeyMatch(
        source_of=source_of,
        missing=tuple(name for name in network if name not in source_of),
        unexpected=tuple(
            source
            for name, source in stored.items()
            if shared_name(name) not in used and not name.startswith(tuple(skip))
        ),
        misshapen=tuple(misshapen),
    )


def stored_names(checkpoint: Shapes) -> dict[str, str]:
    """Names as in the network -> names as stored: without the `model.` in front of all of them."""
    cut = len(_PREFIX) if all(name.startswith(_PREFIX) for name in checkpoint) else 0
    return {name[cut:]: name for name in checkpoint}


def shared_name(name: str) -> str:
    """The one name that stands for all copies of a shared tensor; any other name itself."""
    copy = _SHARED_NORM.fullmatch(name)
    return name if copy is None else f"{copy[1]}0{copy[2]}"


def _held_name(name: str, stored: Mapping[str, str]) -> str | None:
    """Under which name a tensor of the network is stored."""
    return next((held for held in (name, shared_name(name)) if held in stored), None)


def _listed(kind: str, names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{more})"
