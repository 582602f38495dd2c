"""Names and shapes of a checkpoint against those of a network."""

from __future__ import annotations

import pytest

from da3stream.errors import WeightsError
from da3stream.transformer.key_match import match_keys
from tests.estimation.da3.checkpoint_files import tiny_shapes

NETWORK = {"a.weight": (2, 3), "a.bias": (2,)}
AUX = "head.scratch.output_conv2_aux."


def stored(**changes: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
    """NETWORK as a checkpoint has it, with some shapes changed or left out (None)."""
    shapes = {**NETWORK, **{name.replace("_", "."): shape for name, shape in changes.items()}}
    return {f"model.{name}": shape for name, shape in shapes.items() if shape is not None}


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_prefix_of_all_names_does_not_count(prefix: str) -> None:
    match = match_keys(NETWORK, {prefix + name: shape for name, shape in NETWORK.items()})
    assert match.fits
    assert match.source_of == {name: prefix + name for name in NETWORK}
    match.require("it")


def test_a_prefix_of_some_names_counts() -> None:
    match = match_keys(NETWORK, {"model.a.weight": (2, 3), "a.bias": (2,)})
    assert (match.missing, match.unexpected) == (("a.weight",), ("model.a.weight",))


def test_everything_that_does_not_fit_is_one_error() -> None:
    match = match_keys(NETWORK, stored(a_bias=None, a_weight=(3, 2), b=(1,)))
    assert not match.fits
    with pytest.raises(WeightsError) as raised:
        match.require("weights.safetensors")
    assert str(raised.value).startswith(
        "weights.safetensors does not fit the network: 1 missing (a.bias); 1 unexpected (model.b); "
        "1 misshapen (model.a.weight (3, 2) for (2, 3))"
    )


def test_long_lists_are_cut_and_counted() -> None:
    match = match_keys({f"n{i}": (1,) for i in range(25)}, {f"c{i}": (1,) for i in range(10)})
    with pytest.raises(WeightsError) as raised:
        match.require("it")
    message = str(raised.value)
    assert "25 missing (n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, ...)" in message
    assert "10 unexpected (c0, c1, c2, c3, c4, c5, c6, c7, c8, c9)" in message


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_the_shared_norm_is_stored_once_and_found_under_every_level(level: int) -> None:
    match = match_keys({f"{AUX}{level}.2.weight": (32,)}, {f"model.{AUX}0.2.weight": (32,)})
    assert match.fits
    assert match.source_of == {f"{AUX}{level}.2.weight": f"model.{AUX}0.2.weight"}


def test_stored_copies_of_the_shared_norm_are_not_unexpected() -> None:
    copies = {f"model.da3.{AUX}{level}.2.bias": (32,) for level in range(4)}
    match = match_keys({f"da3.{AUX}3.2.bias": (32,)}, copies)
    assert match.fits
    assert match.source_of == {f"da3.{AUX}3.2.bias": f"model.da3.{AUX}3.2.bias"}


def test_convolutions_of_the_levels_are_not_shared() -> None:
    match = match_keys({f"{AUX}3.5.weight": (7, 32, 1, 1)}, {f"{AUX}0.5.weight": (7, 32, 1, 1)})
    assert match.missing == (f"{AUX}3.5.weight",)


def test_the_keys_of_the_tiny_model_fit_themselves_and_no_subset_does() -> None:
    shapes = tiny_shapes()
    whole = {name.removeprefix("model."): shape for name, shape in shapes.items()}
    assert len(whole) == 337
    assert match_keys(whole, shapes).fits
    for left_out in list(whole)[::40]:
        part = {name: shape for name, shape in whole.items() if name != left_out}
        assert match_keys(whole, part).missing == (left_out,)
        assert match_keys(part, shapes).unexpected == (f"model.{left_out}",)


def test_parts_are_left_out_only_when_named() -> None:
    checkpoint = stored(gs_head_x=(1,))
    checkpoint = {name.replace("gs.head", "gs_head"): shape for name, shape in checkpoint.items()}
    assert match_keys(NETWORK, checkpoint).unexpected == ("model.gs_head.x",)
    assert match_keys(NETWORK, checkpoint, skip=("gs_head.",)).fits
