"""The dense head stage by stage, and the identities that its shortcuts rest on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.dense_head import PatchProjection
from da3stream.estimation.da3.fusion import FusionBlock
from da3stream.estimation.da3.sky import quantile, with_far_sky
from da3stream.estimation.da3.uv_embedding import add_uv_embedding
from tests.estimation.da3.golden import FOLDER, load, load_meta
from tests.estimation.da3.networks import captured, close, executing, images_of

HEAD = FOLDER / "tiny_n5_debug_head.npz"
STAGES = {
    **{f"head.resize{level}": f"resize_layers.{level}" for level in range(4)},
    **{f"head.layer{level}_rn": f"scratch.layer{level}_rn" for level in range(1, 5)},
    "head.output_conv1": "scratch.output_conv1",
    "head.output_conv1_aux3": "scratch.output_conv1_aux.3",
    "head.output_conv2": "scratch.output_conv2",
    "head.output_conv2_aux3": "scratch.output_conv2_aux.3.5",
    **{
        f"head.refinenet{level}{branch}": f"scratch.refinenet{level}{branch}"
        for level in range(1, 5)
        for branch in ("", "_aux")
    },
}


@pytest.fixture(scope="module")
def stages(tiny: AnyViewNetwork) -> dict[str, Tensor]:
    """Outputs of the modules of the head for two of the views of the golden file."""
    images = images_of(load(FOLDER / "tiny_n5_feat.npz"))
    with executing(tiny, head_views=5), torch.inference_mode():
        seen = captured(tiny.head, lambda: tiny(images, export_rays=True))
    return {name: value[:2] for name, value in seen.items()}


@pytest.mark.parametrize(("golden", "ours"), STAGES.items())
def test_stages_agree(stages: dict[str, Tensor], golden: str, ours: str) -> None:
    # refinenet1 is thinned in the full fixture already
    known = load_meta(HEAD)
    step = known["spatial_stride"].get(golden, 1) * known["stride"].get(golden, 1)
    close(stages[ours][..., ::step, ::step], load(HEAD)[golden])


def test_all_stages_are_compared() -> None:
    assert {name for name in load(HEAD) if "project" not in name} == set(STAGES)


@pytest.mark.parametrize("level", range(4))
def test_projections_agree(stages: dict[str, Tensor], level: int) -> None:
    ours = stages[f"projects.{level}"].mT.unflatten(-1, (5, 7))
    close(ours, load(HEAD)[f"head.project{level}"])


def test_projection_is_a_convolution() -> None:
    projection = PatchProjection(12, 5).requires_grad_(False)
    tokens = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(0))
    maps = tokens.mT.unflatten(-1, (2, 3))
    expected = functional.conv2d(maps, projection.weight, projection.bias)
    torch.testing.assert_close(projection(tokens).mT.unflatten(-1, (2, 3)), expected)


def test_fusion_may_project_before_it_enlarges() -> None:
    block = FusionBlock(4).requires_grad_(False)
    x, lateral = torch.randn(2, 1, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    merged = block.resConfUnit2(x + block.resConfUnit1(lateral))
    large = functional.interpolate(merged, size=(7, 8), mode="bilinear", align_corners=True)
    torch.testing.assert_close(block(x, (7, 8), lateral), block.out_conv(large))


def uv_of(rows: int, columns: int, channels: int, aspect: float) -> Tensor:
    """The definition, cell by cell."""
    quarter = channels // 4
    expected = torch.zeros(channels, rows, columns)
    length = math.sqrt(aspect**2 + 1)
    for row in range(rows):
        for column in range(columns):
            x = aspect / length * (2 * column + 1 - columns) / columns
            y = 1 / length * (2 * row + 1 - rows) / rows
            for k in range(quarter):
                angular = 100 ** (-k / quarter)
                values = (math.sin(x * angular), math.cos(x * angular))
                values += (math.sin(y * angular), math.cos(y * angular))
                for part, value in enumerate(values):
                    expected[part * quarter + k, row, column] = value
    return expected


@pytest.mark.parametrize(("rows", "columns", "aspect"), [(3, 5, 1.8), (4, 1, 0.5), (1, 1, 1.0)])
def test_uv_embedding_is_the_one_of_the_definition(rows: int, columns: int, aspect: float) -> None:
    maps = add_uv_embedding(torch.ones(2, 8, rows, columns), aspect)
    expected = 1 + 0.1 * uv_of(rows, columns, 8, aspect).expand(2, -1, -1, -1)
    torch.testing.assert_close(maps, expected)


@pytest.mark.parametrize("name", ["half", "nosky", "few"])
def test_sky_agrees(name: str) -> None:
    golden = load(FOLDER / "nested_post.npz")
    depth, sky = golden[f"{name}.in.metric_depth"], golden[f"{name}.in.sky"]
    kept = depth.clone()
    close(with_far_sky(depth, sky), golden[f"{name}.mono_out.depth"])
    assert torch.equal(depth, kept)


@pytest.mark.parametrize("count", [1, 2, 3, 100, 1234])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0])
def test_quantile_is_that_of_torch(count: int, share: float) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(count))
    torch.testing.assert_close(quantile(values, share), torch.quantile(values, share))
