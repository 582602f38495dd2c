"""Full memory: what is tried next, what is said, and what is left behind in between."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from da3stream.errors import DeviceMemoryError
from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.back_off import with_back_off
from da3stream.transformer.attention import Attention, fused_attention
from da3stream.transformer.execution import Execution
from tests.estimation.da3.networks import executing, random_images

FULL = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 11.76 GiB of which 4.50 "
    "MiB is free. Including non-PyTorch memory, this process has 11.75 GiB memory in use. If reserved but "
    "unallocated memory is large try setting PYTORCH_ALLOC_CONF=expandable_segments:True"
)
VIEWS, ROWS, COLUMNS = 4, 2, 3
TOKENS_TOGETHER = VIEWS * (1 + ROWS * COLUMNS)


class Cut:
    """A network as far as the back-off sees it."""

    def __init__(self, **sizes: int) -> None:
        self.execution = Execution(**sizes)

    def needs(self, heads: int) -> Callable[[], str]:
        """Work that fits once so few heads are worked on at a time."""

        def attempt() -> str:
            if self.execution.heads > heads:
                raise torch.OutOfMemoryError(FULL)
            return f"done with {self.execution.heads}"

        return attempt


def attention_for(heads: int) -> Attention:
    """For so few heads at a time in a block that sees all views; with more, memory is full."""

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if queries.shape[2] == TOKENS_TOGETHER and queries.shape[1] > heads:
            raise torch.OutOfMemoryError(FULL)
        return fused_attention(queries, keys, values)

    return attend


def test_what_fits_is_done_once_and_as_usual() -> None:
    network = Cut(views=2, heads=4)
    assert with_back_off(network.needs(heads=4), network, work="") == ("done with 4", ())
    assert network.execution == Execution(views=2, heads=4)


def test_pieces_are_halved_until_they_fit_and_stay_so() -> None:
    network = Cut(views=2, head_views=8, heads=8)
    result, warnings = with_back_off(network.needs(heads=2), network, work="")
    assert result == "done with 2"
    assert warnings == (
        "out of GPU memory: the network now works on 1 frame (2 frames in its depth head) and 2 attention "
        "heads at a time",
    )
    assert network.execution == Execution(views=1, head_views=2, heads=2)
    assert with_back_off(network.needs(heads=2), network, work="") == ("done with 2", ())


def test_what_never_fits_is_an_error_that_says_what_to_do() -> None:
    network = Cut(views=4, heads=8)
    with pytest.raises(DeviceMemoryError) as raised:
        with_back_off(network.needs(heads=0), network, work="60 frames of 504 x 280 pixels")
    for part in (
        "60 frames of 504 x 280 pixels: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total "
        "capacity of 11.76 GiB of which 4.50 MiB is free; expected",
        "--chunk-size",
        "--resolution",
        "--vram",
    ):
        assert part in str(raised.value)
    assert "PYTORCH_ALLOC_CONF" not in str(raised.value)
    assert raised.value.__context__ is None  # which would hold the tensors of the last attempt
    assert network.execution == Execution(views=1, head_views=1, heads=1)


def test_a_failed_forward_pass_leaves_no_tensor_behind(
    tiny: AnyViewNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is given back to the card when the tensors are gone, not before, and needs no collector."""
    seen: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        seen.extend(weakref.ref(vectors) for vectors in (queries, keys, values))
        return attention_for(heads=2)(queries, keys, values)

    def watch() -> None:
        alive.append(sum(reference() is not None for reference in seen))

    monkeypatch.setattr(torch.cuda, "empty_cache", watch)

    def attempt() -> int:
        images = random_images(VIEWS, ROWS, COLUMNS)
        seen.append(weakref.ref(images))
        with torch.inference_mode():
            return len(tiny(images))

    gc.collect()
    gc.disable()
    try:
        with executing(tiny, heads=4, attention=attend):
            with_back_off(attempt, tiny, work="")
    finally:
        gc.enable()
    assert len(seen) > 6
    assert alive == [0]


@pytest.mark.parametrize("use_ray_pose", [False, True])
def test_a_network_that_backed_off_gives_what_smaller_pieces_give(
    tiny: AnyViewNetwork, use_ray_pose: bool
) -> None:
    images = random_images(VIEWS, ROWS, COLUMNS)

    def attempt() -> dict[str, Tensor]:
        with torch.inference_mode():
            return tiny(images, use_ray_pose=use_ray_pose)

    with executing(tiny, heads=1):
        expected = attempt()
    with executing(tiny, heads=4, attention=attention_for(heads=1)):
        found, warnings = with_back_off(attempt, tiny, work="")
        assert tiny.execution.heads == 1
    assert len(warnings) == 1
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(found[name], values), name
