"""Every stage of the network beside the published one's, both with the same pseudo-random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from da3stream.errors import EstimationError
from da3stream.place.salad.checkpoint import UNUSED
from da3stream.place.salad.network import SaladNetwork
from da3stream.place.salad.optimal_transport import log_assignment
from tests.estimation.da3.golden import load, relative_error
from tests.estimation.da3.networks import captured
from tests.estimation.da3.seeded_weights import normalise

TOLERANCE = 1e-5
"""A tenth of what users may expect; the largest error of all stages is below 2e-6."""
STAGES = [
    "backbone_token", "backbone_feat_s", "token_features", "cluster_features_s", "score_s", "logP_s",
    "descriptor",
]  # fmt: skip
SHARED_FIXTURES = Path("da3") / "fixtures"


def stages_of(network: SaladNetwork, golden: dict[str, Tensor]) -> dict[str, Tensor]:
    """Results of the stages, cut as the golden file has them."""
    images = normalise(golden["images_u8"].numpy())[0]
    found: dict[str, Tensor] = {}
    with torch.inference_mode():
        seen = captured(network, lambda: found.update(descriptor=network(images)))
        shares = log_assignment(seen["aggregator.score"].flatten(2), network.aggregator.dust_bin)
    grid = tuple(side // 14 for side in images.shape[2:])
    tokens = seen["backbone"]
    patches = tokens[:, 1:].mT.unflatten(2, grid)
    return found | {
        "backbone_token": tokens[:, 0],
        "backbone_feat_s": patches[:, ::16, ::2, ::2],
        "token_features": seen["aggregator.token_features"],
        "cluster_features_s": seen["aggregator.cluster_features"][:, ::8, ::2, ::2],
        "score_s": seen["aggregator.score"][:, ::4, ::2, ::2],
        "logP_s": shares[:, ::4, ::4],
    }


def check_all(network: SaladNetwork, golden: dict[str, Tensor]) -> None:
    ours = stages_of(network, golden)
    errors = {name: relative_error(ours[name], golden[name]) for name in STAGES}
    assert max(errors.values()) <= TOLERANCE, errors


def test_stages_agree(salad: SaladNetwork) -> None:
    check_all(salad, load(Path(__file__).parents[2] / "fixtures" / "salad" / "salad_rect.npz"))


@pytest.mark.data
@pytest.mark.slow
def test_stages_agree_at_the_size_of_a_run(salad: SaladNetwork, shared: Path) -> None:
    check_all(salad, load(shared / SHARED_FIXTURES / "salad_336.npz"))


@pytest.mark.data
def test_names_and_shapes_are_the_published_ones(salad: SaladNetwork, shared: Path) -> None:
    published = json.loads((shared / "da3" / "state_dict_keys.json").read_text())["dino_salad.ckpt"]
    ours = {name: list(tensor.shape) for name, tensor in salad.state_dict().items()}
    assert ours == {name: shape for name, shape in published["checkpoint"].items() if name not in UNUSED}


def test_every_normalisation_has_the_epsilon_of_dinov2(salad: SaladNetwork) -> None:
    """With ordinary weights, a wrong one would not show in the golden values."""
    epsilons = [module.eps for module in salad.modules() if isinstance(module, nn.LayerNorm)]
    assert epsilons == [1e-6] * 25


def test_descriptors_have_unit_length_and_do_not_depend_on_their_neighbours(salad: SaladNetwork) -> None:
    images = torch.randn(3, 3, 126, 140, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together, alone = salad(images), salad(images[1:2])
    assert together.shape == (3, 8448)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "message"),
    [((336, 330), "330 x 336 pixels; expected sides that are multiples of 14"), ((112, 112), "64 patches")],
)
def test_images_that_it_cannot_take(salad: SaladNetwork, size: tuple[int, int], message: str) -> None:
    with pytest.raises(EstimationError, match=message):
        salad(torch.zeros(1, 3, *size))
