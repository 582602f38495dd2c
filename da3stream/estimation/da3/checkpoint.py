"""Published weights -> a network that was built on the meta device, one tensor at a time.

Beside the network itself, memory never holds more than one tensor as stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from da3stream.errors import WeightsError
from da3stream.estimation.da3.network import Network, create_network
from da3stream.estimation.da3.safetensors_file import TensorRecord, by_file, read_headers
from da3stream.estimation.da3.tensor_reader import TensorReader
from da3stream.estimation.da3.weights import WeightsLocation, announce_licence
from da3stream.transformer.filling import DtypeRule, fill_network
from da3stream.transformer.key_match import KeyMatch, match_keys, shared_name, stored_names


def load_checkpoint(
    network: nn.Module,
    location: WeightsLocation,
    *,
    dtype: torch.dtype | DtypeRule = torch.float32,
    device: torch.device | str = "cpu",
    skip: Sequence[str] = (),
    notify: Callable[[str], None] | None = None,
) -> None:
    """Fill a network with the weights of a checkpoint. Names and shapes must fit exactly.

    Parameters and persistent buffers are replaced, tied ones stay tied, and none needs gradients afterwards.
    Nothing is changed if the names do not fit. If a tensor turns out to be damaged, the network is half
    filled and of no use.

    Args:
        network: from `empty_network`, or any other.
        location: from `resolve_weights`.
        dtype: type of the parameters, or a function that gives it for each name.
        device: where they go.
        skip: beginnings of names in the checkpoint that the network lacks on purpose, without `model.`.
        notify: takes the line about the licence; default: the log.

    Raises:
        WeightsError: a file is missing or damaged, names or shapes differ, a tensor holds NaN or infinities,
            is all zero, or does not fit the type.
    """
    records = read_headers(location.files)
    slots = network.state_dict(keep_vars=True)
    match = match_keys(_shapes(slots), {name: record.shape for name, record in records.items()}, skip=skip)
    match.require(_title(location))
    if location.model is not None:
        announce_licence(location.model, notify)
    rule = dtype if callable(dtype) else lambda _: dtype
    with TensorReader(records) as reader:
        _check_copies(records, reader)
        targets = {name: records[source] for name, source in match.source_of.items()}
        order = [(name, match.source_of[name]) for name, _ in by_file(targets)]
        fill_network(network, order, reader, rule, device)


def empty_network(model: str) -> Network:
    """The network of a model on the meta device: names and shapes, no memory, ready for `load_checkpoint`.

    Raises:
        ConfigError: there is no model of this name.
    """
    with torch.device("meta"):
        return create_network(model)


def check_names(network: nn.Module, location: WeightsLocation) -> KeyMatch:
    """How the names and shapes of a checkpoint fit a network; reads headers only.

    Raises:
        WeightsError: a file is missing or its header is damaged.
    """
    records = read_headers(location.files)
    shapes = {name: record.shape for name, record in records.items()}
    return match_keys(_shapes(network.state_dict(keep_vars=True)), shapes)


def check_values(location: WeightsLocation) -> int:
    """Read every tensor of a checkpoint once and return how many values there are.

    Raises:
        WeightsError: a tensor cannot be read, holds NaN or infinities, or is all zero.
    """
    records = read_headers(location.files)
    with TensorReader(records) as reader:
        return sum(reader.read(name).numel() for name, _ in by_file(records))


def _shapes(slots: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(slot.shape) for name, slot in slots.items()}


def _title(location: WeightsLocation) -> str:
    first, *others = location.files
    return str(first) if not others else f"{first.parent} ({len(location.files)} shards)"


def _check_copies(records: Mapping[str, TensorRecord], reader: TensorReader) -> None:
    """Where a file stores several copies of the shared LayerNorm, they must be one and the same."""
    stored = stored_names({name: record.shape for name, record in records.items()})
    for name, source in stored.items():
        kept = stored.get(shared_name(name), source)
        if kept != source and not torch.equal(reader.read(kept).clone(), reader.read(source)):
            raise WeightsError(f"{source} differs from {kept}, of which it must be a copy")
