"""Whole networks: the published one's results from the same weights, and what must hold for any input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from da3stream.errors import ConfigError, EstimationError
from da3stream.estimation.da3.any_view_network import AnyViewNetwork
from da3stream.estimation.da3.config import PRESETS, ModelConfig, NestedModelConfig
from da3stream.estimation.da3.loading import load_network
from da3stream.estimation.da3.nested import align_to_metric
from da3stream.estimation.da3.network import create_network
from tests.estimation.da3.golden import FOLDER, load, relative_error
from tests.estimation.da3.networks import (
    TOLERANCE,
    captured,
    errors,
    executing,
    images_of,
    random_images,
    result_for,
    seeded_network,
)

RESULTS = {"depth", "depth_conf", "extrinsics", "intrinsics"}
TINY_FIXTURES = ("tiny_n1", "tiny_n2", "tiny_n2_cam", "tiny_n5_cam", "tiny_n5_feat", "tiny_b2_n4")
LARGE_FIXTURES = {
    "small_n4_112x140": "da3-small",
    "base_n3_112x140": "da3-base",
    "metric_n2_112x140": "da3metric-large",
    "mono_n2_126x98": "da3mono-large",
}


def assert_small(found: dict[str, float]) -> None:
    assert max(found.values()) <= TOLERANCE, {name: f"{error:.1e}" for name, error in found.items()}


@pytest.mark.parametrize("name", TINY_FIXTURES)
def test_tiny_agrees(tiny: AnyViewNetwork, name: str) -> None:
    path = FOLDER / f"{name}.npz"
    found = errors(result_for(tiny, path), path)
    assert set(found) >= RESULTS
    assert_small(found)


def test_every_epsilon_is_right(tiny_near_epsilon: AnyViewNetwork) -> None:
    path = FOLDER / "tiny_n5_cam_eps.npz"
    assert_small(errors(result_for(tiny_near_epsilon, path), path))


@pytest.mark.parametrize("strategy", ["first", "middle"])
def test_reference_view_strategies_agree(tiny: AnyViewNetwork, strategy: str) -> None:
    path = FOLDER / "tiny_n5_refview.npz"
    found = errors(result_for(tiny, path, ref_view_strategy=strategy), path, f"{strategy}.")
    assert len(found) == len(RESULTS)
    assert_small(found)


def test_widest_similarity_range_agrees_with_either_of_the_tied_views(tiny: AnyViewNetwork) -> None:
    path = FOLDER / "tiny_n5_refview.npz"
    result = result_for(tiny, path, ref_view_strategy="saddle_sim_range")
    ways = [errors(result, path, f"saddle_sim_range{tie}.") for tie in ("", "_tie")]
    assert_small(min(ways, key=lambda found: max(found.values())))


@pytest.mark.data
@pytest.mark.parametrize("name", ["tiny_n1", "tiny_n5", "tiny_n5_ray", "tiny_n1_518"])
def test_tiny_agrees_in_every_pixel(tiny: AnyViewNetwork, name: str, shared: Path) -> None:
    path = shared / "da3" / "fixtures" / f"{name}.npz"
    found = errors(result_for(tiny, path, export_feat_layers=()), path)
    # With random weights, the rays fit no one camera: the poses below were not made by the camera head.
    cameras = {"extrinsics", "intrinsics"} if name == "tiny_n5_ray" else set()
    assert_small({key: error for key, error in found.items() if key not in cameras})


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_FIXTURES)
def test_published_sizes_agree(name: str, shared: Path) -> None:
    path = shared / "da3" / "fixtures" / f"{name}.npz"
    shapes = json.loads((shared / "da3" / "state_dict_keys.json").read_text())
    network = seeded_network(LARGE_FIXTURES[name], shapes[LARGE_FIXTURES[name]]["checkpoint"])
    found = errors(result_for(network, path), path)
    assert len(found) >= 2
    assert_small(found)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_builds(name: str) -> None:
    with torch.device("meta"):
        network = create_network(name)
    assert not network.training
    assert network.config.name == name


def test_unknown_model() -> None:
    with pytest.raises(ConfigError, match=r"'da3-medium'.*da3-small or da3-base"):
        create_network("da3-medium")


def test_scenes_of_a_batch_do_not_mix(tiny: AnyViewNetwork) -> None:
    images = random_images(4, batch=3)
    with torch.inference_mode():
        together = tiny(images)
        for scene in range(3):
            alone = tiny(images[scene : scene + 1])
            for name in RESULTS:
                assert relative_error(together[name][scene], alone[name][0]) < TOLERANCE


@pytest.mark.parametrize(
    "sizes",
    [
        {"views": 1, "head_views": 1, "heads": 1},
        {"views": 2, "head_views": 3, "heads": 3},
        {"views": 7, "head_views": 7, "heads": 4},
        {"views": 100, "head_views": 100, "heads": 100},
    ],
)
def test_how_the_work_is_cut_changes_nothing(tiny: AnyViewNetwork, sizes: dict[str, int]) -> None:
    images, layers = random_images(7, batch=2), (0, 1, 2, 5)
    with torch.inference_mode():
        expected = tiny(images, export_rays=True, export_feat_layers=layers)
        with executing(tiny, **sizes):
            result = tiny(images, export_rays=True, export_feat_layers=layers)
    assert set(result) == set(expected)
    for name, value in expected.items():
        assert relative_error(result[name].float(), value.float()) < TOLERANCE, name


def test_what_is_known_of_each_view_may_be_kept(tiny: AnyViewNetwork) -> None:
    """Frames that two chunks share go through the early blocks once."""
    images = random_images(6)
    with torch.inference_mode():
        expected = tiny(images)
        first, second = tiny.per_view(images[0, :4]), tiny.per_view(images[0, 4:])
        together = {name: torch.cat([first[name], second[name]]) for name in first}
        result = tiny(images, per_view=together)
    for name in RESULTS:
        assert relative_error(result[name], expected[name]) < TOLERANCE


def test_features_of_layers_that_were_not_kept_are_refused(tiny: AnyViewNetwork) -> None:
    images = random_images(2)
    with pytest.raises(EstimationError, match=r"early layers.*got \[1, 3\]; expected 2 or more"):
        tiny(images, per_view=tiny.per_view(images[0]), export_feat_layers=(1, 3))


def test_nothing_waits_for_the_device(tiny: AnyViewNetwork) -> None:
    """A number that Python looks at would have to be computed first; fake tensors have none to look at."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        result = tiny(torch.empty(1, 4, 3, 28, 42), export_feat_layers=(1, 3))
    assert result["depth"].shape == (1, 4, 28, 42)


def test_attention_never_forms_the_matrix_of_all_pairs(tiny: AnyViewNetwork) -> None:
    views, tokens = 6, 1 + 4 * 6
    watch = PairsOfTokens({tokens, views * tokens})
    with torch.inference_mode(), watch:
        tiny(random_images(views, 4, 6))
    assert watch.attentions == 4 * views + 2  # blocks that see one view, one at a time, and all views
    assert watch.matrices == []
    with watch, sdpa_kernel(SDPBackend.MATH):  # the watch would notice
        scaled_dot_product_attention(*torch.zeros(3, 1, 1, tokens, 16))
    assert watch.matrices != []


class PairsOfTokens(TorchDispatchMode):
    """Looks at the results of all operations for one with two axes of tokens."""

    def __init__(self, counts: set[int]) -> None:
        super().__init__()
        self.counts, self.attentions = counts, 0
        self.matrices: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.attentions += "scaled_dot_product" in str(func)
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and len(value.shape) >= 2 and {*value.shape[-2:]} <= self.counts:
                self.matrices.append(tuple(value.shape))
        return result


def test_input_is_left_alone(tiny: AnyViewNetwork) -> None:
    images = random_images(3)
    kept = images.clone()
    with torch.inference_mode():
        first, second = tiny(images), tiny(images)
    assert torch.equal(images, kept)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_nothing_is_computed_for_rays_that_nobody_asked_for(tiny: AnyViewNetwork) -> None:
    with torch.inference_mode():
        modules = captured(tiny, lambda: tiny(random_images(2)))
        assert not any("_aux" in name for name in modules)
        assert "ray" not in tiny(random_images(2))
        modules = captured(tiny, lambda: tiny(random_images(2), export_rays=True))
    assert "head.scratch.output_conv2_aux.3.5" in modules
    assert not any(f"aux.{level}." in name for name in modules for level in range(1, 3))


def test_cameras_from_rays_replace_those_of_the_camera_head(tiny: AnyViewNetwork) -> None:
    golden = load(FOLDER / "tiny_n1.npz")
    with torch.inference_mode():
        from_head = tiny(images_of(golden))
        from_rays = tiny(images_of(golden), use_ray_pose=True)
    assert set(from_rays) == set(from_head) == {*RESULTS, "pose_enc", "reference"}
    assert from_rays["extrinsics"].shape == (1, 1, 3, 4)
    assert not torch.allclose(from_rays["intrinsics"], from_head["intrinsics"])
    assert torch.equal(from_rays["pose_enc"], from_head["pose_enc"])


def test_bfloat16_transformer_with_float32_heads(tiny: AnyViewNetwork) -> None:
    images = images_of(load(FOLDER / "tiny_n2.npz"))
    half = load_network("tiny", weights="seeded:0", trunk_dtype=torch.bfloat16)
    assert {str(some.dtype) for some in half.parameters()} == {"torch.float32", "torch.bfloat16"}
    with torch.inference_mode():
        exact, rough = tiny(images), half(images)
    for name in RESULTS:
        assert rough[name].dtype == torch.float32
        assert 0 < float((rough[name] - exact[name]).abs().mean() / exact[name].abs().max()) < 0.02


def test_poses_without_intrinsics_are_refused(tiny: AnyViewNetwork) -> None:
    poses = torch.eye(4).expand(1, 2, 4, 4)
    with pytest.raises(EstimationError, match="together or not at all"):
        tiny(random_images(2), poses)


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (1, 2, 3, 28, 30), (1, 2, 4, 28, 28), (1, 0, 3, 28, 28)])
def test_images_that_do_not_fit_are_refused(tiny: AnyViewNetwork, shape: tuple[int, ...]) -> None:
    with pytest.raises(EstimationError, match=r"multiples of 14"):
        tiny(torch.zeros(shape))


def test_options_that_do_not_fit_are_refused(tiny: AnyViewNetwork) -> None:
    images = random_images(2)
    with pytest.raises(EstimationError, match=r"got \[6\]; expected 0 to 5"):
        tiny(images, export_feat_layers=(3, 6))
    with pytest.raises(EstimationError, match="predicts no Gaussians"):
        tiny(images, infer_gs=True)
    with pytest.raises(ConfigError, match="'last'"):
        tiny(images, ref_view_strategy="last")


def tiny_config(**changes: object) -> ModelConfig:
    config = PRESETS["tiny"]
    assert isinstance(config, ModelConfig)
    return replace(config, **changes)


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def test_gaussians_come_one_a_pixel() -> None:
    network = randomised(create_network(tiny_config(has_gaussians=True, head_features=32)))
    with torch.inference_mode():
        result = network(random_images(3, batch=2), infer_gs=True)
    assert result["gs.raw"].shape == (2, 3, 42, 56, 37)
    assert result["gaussians.means"].shape == (2, 3, 42, 56, 3)
    assert result["gaussians.harmonics"].shape == (2, 3, 42, 56, 3, 9)
    assert 0 <= float(result["gaussians.opacities"].min()) <= float(result["gaussians.opacities"].max()) <= 1


def test_single_views_do_not_see_each_other() -> None:
    network = randomised(create_network(tiny_config(alternation_start=None)))
    torch.nn.init.constant_(network.head.scratch["sky_output_conv2"][2].bias, 0.0)
    torch.nn.init.constant_(network.head.scratch["sky_output_conv2"][2].weight, 0.0)
    images = random_images(3)
    with torch.inference_mode():
        together, alone = network(images), network(images[:, 1:2])
    assert set(together) == {"depth", "sky"}
    assert relative_error(together["depth"][:, 1:2], alone["depth"]) < TOLERANCE


def test_nested_is_the_any_view_network_at_the_metric_one_s_scale() -> None:
    metric = tiny_config(alternation_start=None)
    nested = NestedModelConfig(name="nested", any_view=tiny_config(), metric=metric)
    network = randomised(create_network(nested))
    # No sky: fewer pixels than a statistic needs would be left otherwise.
    torch.nn.init.constant_(network.da3_metric.head.scratch["sky_output_conv2"][2].bias, -100.0)
    images = random_images(3)
    with torch.inference_mode():
        result = network(images)
        plain, depth = network.da3(images), network.da3_metric(images)
    expected = align_to_metric(
        *(plain[name][0] for name in ("depth", "depth_conf", "extrinsics", "intrinsics")),
        canonical_depth=depth["depth"][0],
        sky=depth["sky"][0],
    )
    assert float(result["scale_factor"]) == pytest.approx(expected.scale)
    assert torch.equal(result["depth"][0], expected.depth_m)
    torch.testing.assert_close(result["depth"], plain["depth"] * expected.scale)
    torch.testing.assert_close(result["extrinsics"][..., 3], plain["extrinsics"][..., 3] * expected.scale)
