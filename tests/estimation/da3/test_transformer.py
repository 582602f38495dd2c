"""The transformer stage by stage, and the identities that its shortcuts rest on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from da3stream.errors import ConfigError
from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.layer_features import LayerFeatures
from da3stream.estimation.da3.reference_view import choose_reference, reference_first
from da3stream.transformer.execution import Execution
from da3stream.transformer.rope import grid_rotation
from tests.estimation.da3.golden import FOLDER, load
from tests.estimation.da3.networks import captured, close, executing, images_of, random_images

CPU = torch.device("cpu")
TOKENS = FOLDER / "tiny_n5_debug_tokens.npz"


REFERENCE = torch.tensor([3])
"""The view that comes first in the golden tokens from block 1 on."""


@pytest.fixture(scope="module")
def stages(tiny: AnyViewNetwork) -> dict[str, Tensor]:
    """Outputs of the modules of the transformer for the input of the golden tokens, all views at once."""
    images = images_of(load(FOLDER / "tiny_n5_feat.npz"))
    with executing(tiny, views=5), torch.inference_mode():
        seen = captured(tiny, lambda: tiny(images))
    return {name.removeprefix("backbone.pretrained."): value for name, value in seen.items()}


@pytest.mark.parametrize(
    ("golden", "ours"),
    [
        ("patch_embed", "patch_embed"),
        ("block0.in", "blocks.0.norm1.in"),
        ("block0", "blocks.0.ls2"),
        ("camtok3", "cam_dec.backbone.0.in"),
    ],
)
def test_stages_agree(stages: dict[str, Tensor], golden: str, ours: str) -> None:
    expected = load(TOKENS)[golden]
    close(stages[ours].view(expected.shape), expected)


@pytest.mark.parametrize(
    ("golden", "ours"),
    [
        ("block1", "blocks.1.ls2"),
        ("block2.in", "blocks.2.norm1.in"),
        ("block2.attn", "blocks.2.attn.proj"),
        ("block2", "blocks.2.ls2"),
        ("block3.attn", "blocks.3.attn.proj"),
        ("block3", "blocks.3.ls2"),
        ("block4", "blocks.4.ls2"),
        ("block5", "blocks.5.ls2"),
    ],
)
def test_stages_agree_with_the_reference_view_first(
    stages: dict[str, Tensor], golden: str, ours: str
) -> None:
    expected = load(TOKENS)[golden]
    close(reference_first(stages[ours][None], REFERENCE).view(expected.shape), expected)


def test_rotated_queries_agree(stages: dict[str, Tensor]) -> None:
    queries = stages["blocks.2.attn.q_norm"].transpose(1, 2)
    close(reference_first(queries[None], REFERENCE)[0], load(TOKENS)["block2.q_norm"])
    rotated = grid_rotation(5, 7, 16, CPU)(queries)
    close(reference_first(rotated[None], REFERENCE)[0], load(TOKENS)["block2.q_rope"])


def test_position_table_agrees(tiny: AnyViewNetwork) -> None:
    close(tiny.backbone.pretrained.positions(5, 7), load(TOKENS)["pos_embed"])


def test_position_table_of_the_training_size_is_the_trained_one(tiny: AnyViewNetwork) -> None:
    transformer = tiny.backbone.pretrained
    assert transformer.positions(37, 37) is transformer.pos_embed


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (20, 36), (36, 20), (37, 36), (74, 130)])
def test_position_table_has_the_size_of_the_image(tiny: AnyViewNetwork, rows: int, columns: int) -> None:
    """The size follows from scale factors, so it could be off by one."""
    assert tiny.backbone.pretrained.positions(rows, columns).shape == (1, 1 + rows * columns, 64)


@pytest.mark.parametrize("level", range(4))
def test_features_agree(tiny: AnyViewNetwork, level: int) -> None:
    images = images_of(load(FOLDER / "tiny_n5_feat.npz"))
    with torch.inference_mode():
        for features in later_layers(tiny, images):
            if features.index == tiny.config.out_layers[level]:
                ours = torch.cat([features.patches(slice(0, 2)), features.patches(slice(2, 5))])
                break
    close(ours[None, ..., ::3], load(FOLDER / "tiny_n5_debug_feats.npz")[f"feat{level}"])


def later_layers(tiny: AnyViewNetwork, images: Tensor) -> Iterator[LayerFeatures]:
    """The layers behind the camera tokens."""
    transformer, usual = tiny.backbone.pretrained, Execution()
    early, _ = transformer.early(images[0], usual)
    reference = choose_reference(early.class_tokens[None], "saddle_balanced")
    camera_tokens = transformer.learned_camera_tokens(reference, images.shape[1])
    return transformer.features(early.tokens, camera_tokens, images, usual)


@pytest.mark.parametrize(
    ("strategy", "choices"),
    [("first", {0}), ("middle", {2}), ("saddle_balanced", {3}), ("saddle_sim_range", {1, 2})],
)
def test_reference_views_agree(strategy: str, choices: set[int]) -> None:
    class_tokens = load(FOLDER / "tiny_n5_refview.npz")["cls_before_selection"]
    assert int(choose_reference(class_tokens[None], strategy)) in choices


def test_middle_of_an_even_number_of_views() -> None:
    assert choose_reference(torch.randn(2, 6, 4), "middle").tolist() == [3, 3]


def test_a_tie_goes_to_the_first_view() -> None:
    assert choose_reference(torch.ones(1, 4, 8), "saddle_balanced").tolist() == [0]


def test_unknown_strategy_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="saddle_balanced or saddle_sim_range or first or middle"):
        choose_reference(torch.ones(1, 4, 8), "best")


@pytest.mark.parametrize("views", [3, 4, 9])
def test_the_reference_comes_first_and_the_others_stay_in_order(views: int) -> None:
    reference = torch.tensor([views - 1, 0, 1])
    index = torch.arange(3 * views).view(3, views)
    reordered = reference_first(index, reference)
    for scene, first in enumerate(reference.tolist()):
        rest = [scene * views + view for view in range(views) if view != first]
        assert reordered[scene].tolist() == [scene * views + first, *rest]


@pytest.mark.parametrize("views", [1, 2])
def test_few_views_are_never_reordered(tiny: AnyViewNetwork, views: int) -> None:
    images = random_images(views)
    with torch.inference_mode():
        first, middle = (tiny(images, ref_view_strategy=name) for name in ("first", "middle"))
    assert torch.equal(first["depth"], middle["depth"])


def test_blocks_after_the_last_layer_in_demand_do_not_run(tiny: AnyViewNetwork) -> None:
    ran = []
    blocks = tiny.backbone.pretrained.blocks
    handles = [
        block.mlp.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, block in enumerate(blocks)
    ]
    with torch.inference_mode():
        for features in later_layers(tiny, random_images(1)):
            if features.index == 3:
                break
    for handle in handles:
        handle.remove()
    assert ran == [0, 1, 2, 3]
